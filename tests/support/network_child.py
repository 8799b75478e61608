"""A process that filters guests one by one and says so after each; it is killed by its test."""

import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.network import GuestOf, a_network, a_vif
from support.records import uuid_of


async def main(count: int) -> None:
    """Filter so many."""
    async with a_network() as network:
        for number in range(count):
            vif = a_vif(number, security_group_rules=[]) if number % 2 else a_vif(number)
            guest = GuestOf([vif], uuid=uuid_of(number))
            await network.ensure_filtering_rules_for_instance(guest)
            print(number, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
