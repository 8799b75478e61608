"""Write docs/no-regret.md: every situation, run by nova-compute alone and by bringup before it (`make no-regret`)."""

import os
import subprocess
import sys
from pathlib import Path

from support.regret import HEAD, SITUATIONS, Row, rows_of
from support.regret_lab import command

PAGE = Path(__file__).with_name("no-regret.md")
TESTS = PAGE.parents[1] / "tests"
TEXT = """\
# No regret

In no situation may a host, a guest, a record or another service be worse off with `bringup` than without it.  This page
is made by running both (`make no-regret`, some five minutes): Nova 34's whole nova-compute with its own libvirt driver,
`resume_guests_state_on_host_boot = true`, a real nova-conductor over RabbitMQ, libvirt, QEMU and Open vSwitch.  First
nova-compute alone on a host that has booted; then the same host, put back as it was: `bringup run --once`, then
nova-compute.  The test `acceptance/test_no_regret.py` runs all of it again and compares it with this page.

A cell says what the guest is in the end, and the `vm_state/task_state` of its record.  *Deferred* means that `bringup`
did not start the guest and left its record as it was: nova-compute, which starts after it, does what only it can do.

Neutron is a small one of the tests' own that has the instances' ports; Cinder and Glance are not asked.  Only what this
machine can run is here: [Which guests come back](which-guests-come-back.md) has the rest.

## One instance, and what a host boot finds of it

"""
SERVICES = """
## What a host needs is away at the first start, and there at the second

`bringup said` has the exit codes of its two starts: 69 means that no instance was touched, and nova-compute, which
[waits for it](operating.md), was not started before the second.

"""
NOT_HERE = """\

## Not in the tables

- **nova-conductor or RabbitMQ away.** Both wait for it, and nothing is touched before
  (`acceptance/test_openstack_hardships.py`).
- **Placement away.** nova-compute alone starts the guests all the same; with `bringup` they start when Placement
  answers ([difference 4](nova-differences.md): a host that cannot give its resources to Placement must not run).
  Set `placement.wait` to how long that may be.
- **A NIC of a type that Nova has dropped** (`bridge`): one ends Nova 34's `init_host` for the whole host, with or
  without `bringup`; what was brought back before runs on.
- **Ports, attachments and images** that a deletion owes are left to nova-compute, which finishes it; so far `bringup`
  has no client of its own for Neutron, Cinder and Glance.
"""


def lab() -> list[Row]:
    """Run the lab; its errors are shown as they come."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command(), env=environment, cwd=TESTS, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return rows_of(done.stdout.splitlines())


def main() -> None:
    """Run the lab, write the page, and say what is worse."""
    rows = lab()
    instances, services = rows[: len(SITUATIONS)], rows[len(SITUATIONS) :]
    tables = ["\n".join((*HEAD, *map(str, rows))) + "\n" for rows in (instances, services)]
    PAGE.write_text(TEXT + tables[0] + SERVICES + tables[1] + NOT_HERE)
    worse = [str(row) for row in rows if row.verdict.startswith("worse")]
    sys.stdout.write("\n".join([f"{len(rows)} rows, {len(worse)} worse", *worse]) + "\n")


main()
