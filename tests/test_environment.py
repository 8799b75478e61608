"""What is started on this host gets no password of ours."""

import re
import sys
from pathlib import Path

import pytest

from bringup.drivers.environment import clean
from bringup.drivers.network.commands import Command

SECRETS = ("OS_PASSWORD", "BRINGUP_PLACEMENT__TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "LD_PRELOAD", "PYTHONPATH")


def test_only_what_a_program_needs_is_handed_on() -> None:
    ours = dict.fromkeys(SECRETS, "s3cr3t") | {"PATH": "/bin", "LC_ALL": "de_DE.UTF-8", "OVS_RUNDIR": "/run/ovs"}
    assert clean(ours) == {"PATH": "/bin", "OVS_RUNDIR": "/run/ovs", "LC_ALL": "C"}


@pytest.mark.anyio
async def test_a_command_of_the_network_sees_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cr3t")
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nimport os\nprint(sorted(os.environ), 's3cr3t' in os.environ.values())\n")
    program.chmod(0o755)
    command = Command(
        program=str(program),
        package="p",
        deadline_s=60,
        service="nothing",
        away=re.compile("$^"),
        to_do="",
        to_let_in="",
    )

    said = await command.run([])

    assert said.strip().endswith("False")
    assert not any(name in said for name in SECRETS)
