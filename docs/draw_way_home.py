"""Write ``way-home.svg``: when each guest was started and ready, each way a row.

``python docs/draw_way_home.py FILE ...``, which ``make bench-way-home`` has written (``--json``).
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT, TOP = 840, 232, 90, 64
ROW, GAP, TICK = 24, 46, 8
STARTED, READY, OURS, GREY = "#9a6700", "#0969da", "#1a7f37", "#d0d7de"
OUR_WAY = "bringup run"
STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300)
MOST_STEPS = 8
LEGEND = (
    '<text x="12" y="22">From the start of each way: '
    f'<tspan fill="{STARTED}">up, a guest was started</tspan>; '
    f'<tspan fill="{READY}">down, it had booted</tspan>; at the end, when all had.</text>'
)


class Panel:
    """The ways with one kind of guests and of storage."""

    def __init__(self, title: str, ways: Mapping[str, Mapping[str, Any]], top: float) -> None:
        """Place it."""
        self.title, self.ways, self.top = title, ways, top
        self.last_s: float = max(way["ready"][-1] for way in ways.values())
        self.bottom = top + ROW * len(ways)

    def x_of(self, seconds: float) -> float:
        """Return the place of a time."""
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.last_s

    def drawn(self) -> Iterator[str]:
        """Return title, grid and rows."""
        yield f'<text x="12" y="{self.top - 14}" font-weight="600">{self.title}</text>'
        step = next((each for each in STEPS_S if self.last_s / each <= MOST_STEPS), STEPS_S[-1])
        for seconds in range(0, int(self.last_s) + 1, step):
            x = self.x_of(seconds)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.bottom}" stroke="{GREY}"/>'
            yield f'<text x="{x:.1f}" y="{self.bottom + 15}" text-anchor="middle">{seconds} s</text>'
        for number, (name, way) in enumerate(self.ways.items()):
            yield from self._row(self.top + ROW * (number + 0.5), name, way["started"], way["ready"])

    def _row(self, y: float, name: str, started: Sequence[float], ready: Sequence[float]) -> Iterator[str]:
        is_ours = name.startswith(OUR_WAY)
        weight = ' font-weight="600"' if is_ours else ""
        yield f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end"{weight}>{name}</text>'
        end = self.x_of(ready[-1])
        yield f'<line x1="{LEFT}" x2="{end:.1f}" y1="{y}" y2="{y}" stroke="{GREY}"/>'
        for times, colour, upwards in ((started, STARTED, True), (ready, OURS if is_ours else READY, False)):
            for at_s in times:
                x = self.x_of(at_s)
                to = y - TICK if upwards else y + TICK
                yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{to}" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{end + 8:.1f}" y="{y + 4}"{weight}>{ready[-1]:.1f} s</text>'


def picture(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture of what was measured."""
    panels: list[Panel] = []
    for document in documents:
        for key, what in (
            ("hooks", f"{document['guests']} Linux guests"),
            ("idle_hooks", f"{document['idle']} guests that have nothing to boot"),
        ):
            for hook, ways in document[key].items():
                title = what if hook == "0" else f"{what}, each start {hook} s longer (slow storage)"
                panels.append(Panel(title, ways, panels[-1].bottom + GAP + 10 if panels else TOP))
    height = panels[-1].bottom + 28
    # What is drawn in a page with a dark background is read on white.
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}">',
            '<g font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            LEGEND,
            *(line for panel in panels for line in panel.drawn()),
            "</g>",
            "</svg>",
        ]
    )


def main() -> None:
    """Draw what files have."""
    documents = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    Path(__file__).with_name("way-home.svg").write_text(picture(documents) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
