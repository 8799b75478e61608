"""Which boot it is, on machines that boot: a soft reboot of the systemd that has it."""

import shutil
from collections.abc import Iterator

import pytest

from bringup.daemon.boot import ASK, identified
from support.booted import Machine, booted, require_a_machine
from support.debian import make_debian

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require_a_machine()
    machine = Machine(tmp_path_factory.mktemp("softly"))
    # Debian 12 has no soft reboot.
    make_debian(machine.tree, ("systemd", "systemd-sysv", "dbus", "procps"), release="trixie")
    with booted(machine):
        yield machine
    shutil.rmtree(machine.directory, ignore_errors=True)


def boot_of(machine: Machine) -> tuple[str, str]:
    """Give the kernel's boot id as the machine has it, and what it is for us."""
    kernels = machine.run("cat", "/proc/sys/kernel/random/boot_id")
    told = dict(line.split("=", 1) for line in machine.run(*ASK).splitlines())
    return kernels, identified(kernels, told)


def test_a_soft_reboot_is_another_boot_under_the_same_kernel(machine: Machine) -> None:
    """All guests are gone, the boot id of the kernel and /run are as before."""
    kernels, before = boot_of(machine)
    assert before == kernels

    machine.soft_reboot()
    once = boot_of(machine)
    machine.soft_reboot()
    twice = boot_of(machine)

    assert {once[0], twice[0]} == {kernels}
    assert len({before, once[1], twice[1]}) == 3

    machine.power_cut()
    kernels_again, again = boot_of(machine)
    assert again == kernels_again
    assert again not in {before, once[1], twice[1]}
