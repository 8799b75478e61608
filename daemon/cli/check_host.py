"""What ``bringup check`` says of what the guests need together: the gates of a run, looked at once."""

from collections.abc import Sequence

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.errors import SettingsError, Unavailable
from bringup.daemon.recovery.host_gates import concerned, needs_of_the_host, sentence_of
from bringup.daemon.recovery.load_records import guests_of, load_records
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings
from bringup.drivers.needs import Need, NeedState


async def host_findings(settings: Settings) -> Sequence[Finding]:
    """Look at each thing that the guests need together, a finding each; none where there is nothing to ask about."""
    deadline_s, name = settings.limits.host_deadline, settings.host.name
    driver = assembly.make_driver(settings)
    try:
        local = await guests_of(driver, name, deadline_s=deadline_s)
        async with (
            assembly.opened_messaging(settings) as rpc,
            assembly.opened_store(settings, must_exist=True, rpc=rpc) as store,
        ):
            records = await load_records(store, name, local=local, resuming=Resuming(), deadline_s=deadline_s)
        guests = concerned(records, frozenset())
        needs = await needs_of_the_host(driver, guests, deadline_s=deadline_s) if guests else []
    except SettingsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            # No records yet: the check of the store has said so.
            return []
        raise
    finally:
        await assembly.close_driver(driver)
    return [_finding(need) for need in needs]


def _finding(need: Need) -> Finding:
    facts = {"need": need.name, "state": need.state.value}
    if need.state is NeedState.MET:
        return Finding("host", Status.OK, f"{need.name} is there, which guests of this host need", facts)
    message = f"run will not touch an instance: {sentence_of([need])}"
    return Finding("host", Status.FAILED, message, facts, exit_code=Unavailable.exit_code)
