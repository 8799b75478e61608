"""Whether a guest that ran before may be brought back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.from_guest import FROM_SECOND_LOOK
from bringup.daemon.decisions.policies import Guests, InstancePolicy, ResumePolicy
from bringup.daemon.decisions.resume_policy import RARELY_FIRST, Boot, Resuming
from bringup.daemon.decisions.rules import Facts, Withheld, decide
from bringup.daemon.decisions.states import PowerState
from support.drivers import uuid_of
from support.hosts import HOST, instance

UUID = uuid_of(1)
YES = (True, None)
NO = (False, None)


def decision(
    guests: Guests,
    *,
    boot: Boot | None = None,
    max_downtime_s: float = 0,
    policy: InstancePolicy = "narrows",
    resume: str | None = None,
    max_downtime: str | None = None,
) -> tuple[bool, Withheld | None]:
    metadata = {"bringup:resume": resume, "bringup:max_downtime": max_downtime}
    resuming = Resuming(
        ResumePolicy(guests=guests, max_downtime=max_downtime_s, instance_policy=policy), boot or Boot()
    )
    return resuming.of(UUID, {key: value for key, value in metadata.items() if value is not None})


@pytest.mark.parametrize(("guests", "answer"), [("never", NO), ("on_host_boot", YES), ("on_every_start", YES)])
def test_on_the_first_run_of_a_boot_the_setting_decides(guests: Guests, answer: tuple[bool, None]) -> None:
    assert decision(guests) == answer


@pytest.mark.parametrize("boot", [Boot(settled=True), Boot(resumed=frozenset({UUID}))], ids=["a run ended", "this one"])
def test_on_host_boot_is_once_a_boot(boot: Boot) -> None:
    assert decision("on_host_boot", boot=boot) == (False, Withheld.ONCE_A_BOOT)
    assert decision("on_every_start", boot=boot) == YES
    assert decision("never", boot=boot) == NO


def test_one_that_was_held_has_not_had_its_turn() -> None:
    held = frozenset({UUID})
    assert decision("on_host_boot", boot=Boot(settled=True, held=held)) == YES
    assert decision("on_host_boot", boot=Boot(settled=True, held=held, resumed=held)) == (False, Withheld.ONCE_A_BOOT)


def test_another_instance_that_was_brought_back_proves_nothing_of_this_one() -> None:
    assert decision("on_host_boot", boot=Boot(resumed=frozenset({uuid_of(2)}))) == YES


def test_what_was_done_on_this_boot_and_is_forgotten_is_not_done_again() -> None:
    assert decision("on_host_boot", boot=Boot(memory_lost=True)) == (False, Withheld.UNKNOWN)


@pytest.mark.parametrize(
    ("downtime_s", "answer"),
    [
        (0.0, YES),
        (300.0, YES),
        (300.1, (False, Withheld.AWAY_TOO_LONG)),
        (None, (False, Withheld.UNKNOWN)),
    ],
)
@pytest.mark.parametrize("guests", ["on_host_boot", "on_every_start"])
def test_a_host_that_was_away_too_long_or_nobody_knows_how_long_brings_nothing_back(
    guests: Guests, downtime_s: float | None, answer: tuple[bool, Withheld | None]
) -> None:
    assert decision(guests, boot=Boot(downtime_s=downtime_s), max_downtime_s=300) == answer


@pytest.mark.parametrize("host", RARELY_FIRST)
@pytest.mark.parametrize("wanted", RARELY_FIRST)
def test_an_instance_may_ask_for_less_than_the_host_and_only_with_decides_for_more(
    host: Guests, wanted: Guests
) -> None:
    rarer = RARELY_FIRST[min(RARELY_FIRST.index(host), RARELY_FIRST.index(wanted))]
    assert decision(host, resume=wanted, policy="ignored")[0] is decision(host)[0]
    assert decision(host, resume=wanted, policy="narrows")[0] is decision(rarer)[0]
    assert decision(host, resume=wanted, policy="decides")[0] is decision(wanted)[0]


def test_an_instance_that_keeps_itself_down_is_distinguished_from_a_host_that_brings_nothing_back() -> None:
    assert decision("on_host_boot", resume="never") == (False, Withheld.METADATA)
    assert decision("never", resume="never") == NO


@pytest.mark.parametrize("policy", ["narrows", "decides"])
@pytest.mark.parametrize(
    "metadata",
    [{"resume": "yes"}, {"resume": ""}, {"max_downtime": "soon"}, {"max_downtime": "-1"}, {"max_downtime": ""}],
)
def test_metadata_that_cannot_be_read_starts_nothing(policy: InstancePolicy, metadata: dict[str, Any]) -> None:
    assert decision("on_every_start", policy=policy, **metadata) == (False, Withheld.METADATA)
    assert decision("on_every_start", policy="ignored", **metadata) == YES


@pytest.mark.parametrize(
    ("host_s", "wanted", "policy", "downtime_s", "answer"),
    [
        (600, "5min", "narrows", 400, (False, Withheld.AWAY_TOO_LONG)),
        (600, "1h", "narrows", 700, (False, Withheld.AWAY_TOO_LONG)),
        (0, "5min", "narrows", 400, (False, Withheld.AWAY_TOO_LONG)),
        (600, "0", "narrows", 700, (False, Withheld.AWAY_TOO_LONG)),
        (600, "1h", "decides", 700, YES),
        (600, "0", "decides", 700, YES),
        (600, "5min", "ignored", 400, YES),
    ],
)
def test_an_instance_may_be_more_impatient_than_its_host(
    host_s: float, wanted: str, policy: InstancePolicy, downtime_s: float, answer: tuple[bool, Withheld | None]
) -> None:
    given = decision(
        "on_host_boot", boot=Boot(downtime_s=downtime_s), max_downtime_s=host_s, policy=policy, max_downtime=wanted
    )
    assert given == answer


@given(
    guests=st.sampled_from(RARELY_FIRST),
    policy=st.sampled_from(["ignored", "narrows", "decides"]),
    settled=st.booleans(),
    lost=st.booleans(),
    downtime_s=st.none() | st.floats(0, 1e6),
    resume=st.none() | st.sampled_from([*RARELY_FIRST, "nonsense"]),
)
def test_it_is_never_both_brought_back_and_withheld(
    guests: Guests, policy: InstancePolicy, *, settled: bool, lost: bool, downtime_s: float | None, resume: str | None
) -> None:
    boot = Boot(settled=settled, memory_lost=lost, downtime_s=downtime_s)
    resume_guests, withheld = decision(guests, boot=boot, policy=policy, resume=resume)
    assert not (resume_guests and withheld)
    # The facts that come of it have one row, whatever the guest is doing.
    record = instance(1, power_state=PowerState.RUNNING)
    for look in PowerState:
        facts = Facts(instance=record, host=HOST, resume_guests=resume_guests, withheld=withheld, look=look)
        assert len(decide(FROM_SECOND_LOOK, facts).because) == 1


@pytest.mark.parametrize(
    ("withheld", "rule"),
    [
        (Withheld.ONCE_A_BOOT, "resumed_on_boot_only"),
        (Withheld.AWAY_TOO_LONG, "away_too_long"),
        (Withheld.METADATA, "resume_not_wanted"),
        (Withheld.UNKNOWN, "resume_not_known"),
    ],
)
def test_a_guest_that_stays_down_reports_why(withheld: Withheld, rule: str) -> None:
    facts = Facts(
        instance=instance(1, power_state=PowerState.RUNNING), host=HOST, withheld=withheld, look=PowerState.SHUTDOWN
    )
    plan = decide(FROM_SECOND_LOOK, facts)
    assert (plan.because, plan.steps) == ((rule,), ())


def test_one_that_the_run_has_brought_back_and_that_was_stopped_since_stays_down() -> None:
    facts = Facts(
        instance=instance(1, power_state=PowerState.RUNNING),
        host=HOST,
        resume_guests=True,
        done=frozenset({"resume_state_on_host_boot"}),
        look=PowerState.SHUTDOWN,
    )
    assert decide(FROM_SECOND_LOOK, facts).because == ("resumed_before",)
