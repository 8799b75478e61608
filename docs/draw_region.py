"""Write ``region.svg``: how many hosts have passed the gate since Keystone is back, simulated, each way a line.

``PYTHONPATH=tests python docs/draw_region.py``; some minutes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from support.simulated_region import LOGIN_S, WAYS, simulate

HOSTS, WORKERS, OUTAGE_S = 10_000, 24, 600.0
SHOWN_S = 300
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 380, 60, 40, 150, 44
COLOURS = {
    "ideal": "#8a8f98",
    "ours": "#1a7f37",
    "proxy": "#0969da",
    "SRE throttle": "#9a6700",
    "start jitter": "#8250df",
    "no pacing": "#cf222e",
}
STEPS = 240
LINE_PX = 16


def x_of(seconds: float) -> float:
    """Return the place of a time."""
    return LEFT + (WIDTH - LEFT - RIGHT) * min(seconds, SHOWN_S) / SHOWN_S


def y_of(passed: float) -> float:
    """Return the place of a number of hosts."""
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * passed / HOSTS


def line(name: str, passed_after_s: Sequence[float]) -> str:
    """Return the line of a way."""
    points, passed = [], 0
    for step in range(STEPS + 1):
        now_s = SHOWN_S * step / STEPS
        while passed < len(passed_after_s) and passed_after_s[passed] <= now_s:
            passed += 1
        points.append(f"{x_of(now_s):.1f},{y_of(passed):.1f}")
    dashes = ' stroke-dasharray="5 4"' if name == "ideal" else ""
    return f'<polyline fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dashes} points="{" ".join(points)}"/>'


def axes() -> Iterator[str]:
    """Return title, grid and numbers."""
    yield (
        f'<text x="{LEFT}" y="22" font-weight="600">{HOSTS} hosts pass the gate after an outage of Keystone: '
        f"{WORKERS} workers, simulated</text>"
    )
    for share in (0, 25, 50, 75, 100):
        y = y_of(HOSTS * share / 100)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d0d7de"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share} %</text>'
    for seconds in range(0, SHOWN_S, 60):
        x = x_of(seconds)
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{seconds} s</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">since Keystone is back</text>'


def names(ends: dict[str, int]) -> Iterator[str]:
    """Return the names at the ends of the lines, none over another."""
    free = float(TOP)
    for name, passed in sorted(ends.items(), key=lambda end: (-end[1], list(COLOURS).index(end[0]))):
        y = max(free, y_of(passed) + 4)
        free = y + LINE_PX
        yield f'<text x="{WIDTH - RIGHT + 8}" y="{y:.1f}" fill="{COLOURS[name]}">{name} ({passed})</text>'


def main() -> None:
    """Simulate all ways, and draw them."""
    lines = {"ideal": [number * LOGIN_S / WORKERS / 0.8 for number in range(1, HOSTS + 1)]}
    for way in WAYS:
        figures = simulate(way, HOSTS, WORKERS, outage_s=OUTAGE_S, limit_s=SHOWN_S)
        lines[way.name] = list(figures.passed_after_s)
    ends = {name: sum(at_s <= SHOWN_S for at_s in times) for name, times in lines.items()}
    # What is drawn in a page with a dark background is read on white.
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<g font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *axes(),
        *(line(name, lines[name]) for name in reversed(COLOURS)),
        *names(ends),
        "</g>",
        "</svg>",
    ]
    Path(__file__).with_name("region.svg").write_text("\n".join(drawn) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
