"""``make bench-pace``: simulated hosts bring their guests back, with the adaptive pace and with fixed limits.

The model and its hosts are those of the tests (``support.booting_hosts``); the controller is the daemon's.  The best
fixed limit is the one with the least sum of both times, each relative to the quickest; ``first`` is when the tenth that
is first in line is ready.  Arguments: how many seeds.
"""

import sys
from dataclasses import replace
from functools import partial
from typing import Final

from support.booting_hosts import CROWDED, HOSTS, BootingHost, Result, averaged, simulate

LIMITS: Final = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SEEDS: Final = 3
HOLD_S: Final = 60.0


def rows_of(host: BootingHost, seeds: range) -> list[tuple[str, Result]]:
    """Return the results of a host: the best fixed limit, today's default, adaptive, and with silent guests."""
    fixed = {limit: averaged(partial(simulate, host, limit), seeds) for limit in LIMITS}
    quickest_s = min(each.all_s for each in fixed.values()), min(each.half_s for each in fixed.values())
    best = min(fixed, key=lambda n: fixed[n].all_s / quickest_s[0] + fixed[n].half_s / quickest_s[1])
    a_tenth = replace(host, guests=host.guests // 10)
    return [
        (f"best fixed limit, {best}", fixed[best]),
        ("fixed limit, 16", fixed[16]),
        ("adaptive", averaged(partial(simulate, host, None), seeds)),
        ("adaptive, this tenth alone", averaged(partial(simulate, a_tenth, None), seeds)),
        ("adaptive, a tenth goes first", averaged(partial(simulate, host, None, marked=True), seeds)),
        (
            "adaptive, a third never ready",
            averaged(partial(simulate, host, None, silent=1 / 3, hold_s=HOLD_S), seeds),
        ),
    ]


def main() -> None:
    """Simulate all hosts, and print the table."""
    seeds = range(1, 1 + int(dict(enumerate(sys.argv)).get(1, SEEDS)))
    print(
        f"{'seconds':34}{'first':>8}{'half':>8}{'all ready':>10}{'boot p95':>10}{'all / best':>12}{'half / best':>12}",
        flush=True,
    )
    for host in (*HOSTS, CROWDED):
        print(f"{host.name}, {host.guests} guests")
        rows = rows_of(host, seeds)
        best = rows[0][1]
        for name, found in rows:
            ratios = f"{found.all_s / best.all_s:12.2f}{found.half_s / best.half_s:12.2f}"
            times = f"{found.first_s:8.1f}{found.half_s:8.1f}{found.all_s:10.1f}{found.boot_p95_s:10.1f}"
            print(f"  {name:32}{times}{ratios}", flush=True)


if __name__ == "__main__":
    main()
