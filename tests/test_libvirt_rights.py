"""What bringup may do in libvirt: the calls that it makes, the page that lists them, the rules of polkit.

With a real libvirtd whose access driver is on, and a real polkitd that is asked of each call.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bringup.drivers.libvirt import binding
from support.libvirtd import Libvirtd, a_libvirtd, domain_xml
from support.records import uuid_of

REPOSITORY = Path(__file__).parents[1]
CHILD = Path(__file__).parent / "support/libvirt_calls_child.py"
RULES, REPAIRS = (REPOSITORY / "polkit" / name for name in ("49-bringup.rules", "48-bringup-repairs.rules"))
KINDS = (binding.Connection, binding.Domain, binding.Network, binding.StoragePool, binding.StorageVolume)
USER = 10001
LOG = """
polkit.addRule(function (action, subject) {
    if (subject.user === "bringup") { polkit.log("asked " + action.id); }
    return polkit.Result.NOT_HANDLED;
});
"""


def listed(file: Path) -> set[str]:
    """Return the permissions that a file of rules gives."""
    [text] = re.findall(r"^var \w+ = \[(.*?)^\];", file.read_text(), re.DOTALL | re.MULTILINE)
    return set(re.findall(r'^ *"([a-z.-]+)",?$', text, re.MULTILINE))


def table() -> dict[str, set[str]]:
    """Return what the page says: by call, the permissions."""
    page = (REPOSITORY / "docs/libvirt.md").read_text()
    [section] = re.findall(r"^## What bringup may do in libvirt\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    found: dict[str, set[str]] = {}
    for calls, permissions in re.findall(r"^\| (`\w+\..*?) \| (.*?) \|", section, re.MULTILINE):
        for call in re.findall(r"`(\w+\.\w+(?: \(\w+\))?)`", calls):
            assert call not in found, call
            found[call] = set(re.findall(r"`([a-z-]+\.[a-z-]+)`", permissions))
    return found


def test_every_call_to_libvirt_is_on_the_page() -> None:
    made = {f"{kind.__name__}.{name}" for kind in KINDS for name, _ in inspect.getmembers(kind, inspect.isfunction)}
    made = {call for call in made if not call.partition(".")[2].startswith("_")}

    assert {re.sub(r" \(\w+\)$", "", call) for call in table()} - {"Connection.open"} == made


def test_the_polkit_rules_grant_what_the_calls_need_and_no_more() -> None:
    wanted = set().union(*table().values())

    assert listed(RULES) | listed(REPAIRS) == wanted
    assert listed(RULES) & listed(REPAIRS) == set()


def test_no_rule_grants_by_default_what_makes_root() -> None:
    given = listed(RULES)

    assert given.isdisjoint(
        {"domain.write", "domain.save", "domain.block-write", "domain.read-secure", "domain.migrate"}
    )
    writes = {
        "write",
        "save",
        "create",
        "delete",
        "format",
        "resize",
        "data-write",
        "data-read",
        "start",
        "stop",
        "refresh",
    }
    assert not {one for one in given if not one.startswith(("domain.", "connect.")) and one.partition(".")[2] in writes}


def rules(*files: Path) -> dict[str, str]:
    return {"10-log.rules": LOG, **{file.name: file.read_text() for file in files}}


@pytest.fixture(scope="module")
def narrow() -> Iterator[Libvirtd]:
    """Yield a libvirtd that asks polkit, with the rules that are the default."""
    with a_libvirtd(user=USER, rules=rules(RULES)) as server:
        furnish(server)
        yield server


@pytest.fixture
def used_up() -> Iterator[Libvirtd]:
    """Yield one of its own to a test whose guests are gone afterwards."""
    with a_libvirtd(user=USER, rules=rules(RULES)) as server:
        furnish(server)
        yield server


def virsh(server: Libvirtd, *arguments: str, user: int = 0) -> tuple[int, str]:
    become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
    ended = server.inside(*become, "virsh", "--quiet", "--connect", "qemu:///system", *arguments)
    return ended.returncode, ended.stdout + ended.stderr


SECRET = """<secret ephemeral='no' private='no'><uuid>6d1a2b3c-0000-4000-8000-000000000001</uuid>
<usage type='ceph'><name>c</name></usage></secret>"""


def furnish(server: Libvirtd) -> None:
    """Create a guest that is off, one that runs, and one of each other thing."""
    for name in ("pool", "other"):
        (server.directory / name).mkdir(exist_ok=True)
    documents = {"secret": SECRET, "net": "<network><name>network-1</name></network>", "filter": "<filter name='f'/>"}
    for number in (1, 2):
        documents[f"guest-{number}"] = domain_xml(
            uuid_of(number), f"guest-{number}", images=server.directory / "images"
        )
    for name, text in documents.items():
        (server.directory / f"{name}.xml").write_text(text)
    for command in (
        ("secret-define", f"{server.directory}/secret.xml"),
        ("net-define", f"{server.directory}/net.xml"),
        ("pool-create-as", "pool-1", "dir", "--target", f"{server.directory}/pool"),
        ("vol-create-as", "pool-1", "volume-1", "4096"),
        ("define", f"{server.directory}/guest-1.xml"),
        ("define", f"{server.directory}/guest-2.xml"),
        ("start", "guest-2"),
    ):
        code, said = virsh(server, *command)
        assert code == 0, said


def asked_and_allowed(server: Libvirtd) -> tuple[dict[str, set[str]], dict[str, bool]]:
    """Make every call as user bringup; return by call what polkit was asked for, and whether it was allowed."""
    path = f"PYTHONPATH={CHILD.parents[1]}"
    ended = server.inside("env", path, sys.executable, str(CHILD), str(USER), str(server.directory / "log/init.log"))
    assert ended.returncode == 0, ended.stderr
    answers: Mapping[str, tuple[list[str], bool]] = json.loads(ended.stdout)
    return {call: set(each[0]) for call, each in answers.items()}, {call: each[1] for call, each in answers.items()}


FORBIDDEN = (
    ("pool-create-as", "evil", "dir", "--target", "{there}/other"),
    ("pool-define-as", "evil", "dir", "--target", "{there}/other"),
    ("pool-destroy", "pool-1"),
    ("pool-refresh", "pool-1"),
    ("vol-create-as", "pool-1", "evil", "4096"),
    ("vol-upload", "volume-1", "{there}/guest-1.xml", "--pool", "pool-1"),
    ("vol-download", "volume-1", "/dev/null", "--pool", "pool-1"),
    ("vol-delete", "volume-1", "--pool", "pool-1"),
    ("define", "{there}/foreign.xml"),
    ("define", "{there}/guest-1.xml"),
    ("create", "{there}/foreign.xml"),
    ("attach-disk", "guest-2", "/dev/null", "vdb", "--live"),
    ("attach-disk", "guest-1", "/dev/null", "vdb", "--config"),
    ("blockcopy", "guest-2", "fda", "{there}/other/copy"),
    ("blockcommit", "guest-2", "fda"),
    ("snapshot-create", "guest-2"),
    ("save", "guest-2", "{there}/other/saved"),
    ("managedsave", "guest-2"),
    ("dump", "guest-2", "{there}/other/core"),
    ("screenshot", "guest-2", "/dev/null"),
    ("qemu-monitor-command", "guest-2", "--hmp", "info block"),
    ("qemu-agent-command", "guest-2", "{{}}"),
    ("dumpxml", "--security-info", "guest-1"),
    ("secret-get-value", "6d1a2b3c-0000-4000-8000-000000000001"),
    ("secret-set-value", "6d1a2b3c-0000-4000-8000-000000000001", "eA=="),
    ("net-start", "network-1"),
    ("net-define", "{there}/net.xml"),
    ("nwfilter-define", "{there}/filter.xml"),
    ("set-user-password", "guest-2", "root", "x"),
    ("reset", "guest-2"),
    ("autostart", "guest-1"),
)


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(command[:2]))
def test_calls_that_would_make_root_are_refused(narrow: Libvirtd, command: tuple[str, ...]) -> None:
    (narrow.directory / "foreign.xml").write_text(domain_xml(uuid_of(9), "foreign", images=narrow.directory / "images"))
    words = [word.format(there=narrow.directory) for word in command]

    code, said = virsh(narrow, *words, user=USER)

    assert code != 0
    assert "access denied" in said
    assert list((narrow.directory / "other").iterdir()) == []


def test_each_call_queries_polkit_as_on_the_page_and_is_allowed_unless_a_repair(used_up: Libvirtd) -> None:
    asked, allowed = asked_and_allowed(used_up)

    said = table()
    assert asked == {
        call: permissions & asked[call] if not allowed[call] else permissions for call, permissions in said.items()
    }
    assert {call for call, is_allowed in allowed.items() if not is_allowed} == {
        call for call, permissions in said.items() if permissions - listed(RULES)
    }


NOBODY = 65534
"""Who may look by libvirt's own defaults, and start nothing."""
START = """
import os, sys, anyio
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.needs import NeedNotMet
from support.drivers import driver_guest

async def main():
    driver = LibvirtDriver(LibvirtOptions(uri="qemu:///system", autostart="warn"))
    await driver.init_host("compute-1")
    for verb in (driver.resume_state_on_host_boot, driver.power_on):
        try:
            await verb(driver_guest(1))
        except NeedNotMet as error:
            print(type(error).__name__, [need.name for need in error.needs], error)
    await driver.close()

os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
anyio.run(main)
"""


def test_a_start_that_libvirt_does_not_allow_is_no_failure_of_the_guest(narrow: Libvirtd) -> None:
    path = f"PYTHONPATH={CHILD.parents[1]}"

    ended = narrow.inside("env", path, sys.executable, "-c", START, str(NOBODY))

    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if line.startswith("NotAllowed")]
    assert len(said) == 2, ended.stdout
    assert all("['permission of libvirt']" in line and "docs/libvirt.md" in line for line in said)
