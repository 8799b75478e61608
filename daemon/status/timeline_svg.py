"""A timeline as an SVG picture, in the manner of ``systemd-analyze plot``.  Values to text: no I/O, no clock."""

from collections.abc import Iterator
from html import escape
from itertools import count

from bringup.daemon.decisions.outcomes import attention_of
from bringup.daemon.status.timeline import (
    FAILED_COLOUR,
    GROUPS,
    Bar,
    Timeline,
    group_of,
    mark_of,
    outcome_text,
)
from bringup.daemon.text import labelled, short
from bringup.daemon.time_spans import in_words

WIDTH, GUTTER, TAIL, HEAD, FOOT = 1280, 440, 90, 118, 24
UUID_X = 168
LONGEST_NAME = 20
TALL_ROW, SHORT_ROW = 18, 4
MOST_TALL_ROWS = 600
"""In a run with more instances only those that need attention have a row that is tall enough for text."""
LONGEST_MESSAGE = 300

STYLE = """
svg { background: #fff; color: #1b1f24; --quiet: #59636e; --grid: #e3e6ea; --bad: #b3471c; --stripe: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  svg { background: #0e1116; color: #e6eaef; --quiet: #9aa4b0; --grid: #2a313b; --bad: #ff8f5e; --stripe: #161b22; }
}
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: currentColor; }
.title { font-size: 20px; font-weight: 600; }
.quiet { fill: var(--quiet); }
.uuid { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
.bad { fill: var(--bad); }
.grid { stroke: var(--grid); }
.stripe { fill: var(--stripe); }
"""


def svg(timeline: Timeline) -> str:
    """Draw a run: one bar an instance, in the order in which they began."""
    return "".join(_parts(timeline))


def _parts(timeline: Timeline) -> Iterator[str]:
    tall = len(timeline.bars) <= MOST_TALL_ROWS
    heights = [TALL_ROW if tall or _is_urgent(bar) else SHORT_ROW for bar in timeline.bars]
    height = HEAD + sum(heights) + FOOT
    end_s = max(timeline.ends_s, 0.001)
    scale = (WIDTH - GUTTER - TAIL) / end_s
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img"><title>{_text(timeline.title)}</title><style>{STYLE}</style><defs>'
        '<pattern id="failed" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="{FAILED_COLOUR}"/><rect width="2" height="6" fill="#fff"/></pattern></defs>'
    )
    yield _label(20, 32, timeline.title, "title")
    yield _label(20, 52, timeline.subtitle, "quiet")
    counts = ", ".join(f"{number} {word}" for word, number in timeline.counts.items())
    yield _label(20, 70, f"{counts}; {in_words(end_s)} in all" if counts else "no instances", "")
    yield from _legend()
    yield from _axis(end_s, scale, height)
    y = float(HEAD)
    for bar, row in zip(timeline.bars, heights, strict=True):
        yield from _row(bar, y, row, scale)
        y += row
    yield "</svg>\n"


def _legend() -> Iterator[str]:
    x = 20.0
    for label, fill in [*((group.label, group.colour) for group in GROUPS.values()), ("failed", "url(#failed)")]:
        yield f'<rect x="{x:g}" y="82" width="11" height="11" rx="2" fill="{fill}"/>'
        yield _label(x + 16, 92, label, "quiet")
        x += 34 + 6.4 * len(label)


def _axis(end_s: float, scale: float, height: int) -> Iterator[str]:
    step = _step(end_s)
    for number in count():
        at = number * step
        if at > end_s * 1.0001:
            return
        x = GUTTER + at * scale
        yield f'<path class="grid" d="M{x:.1f} {HEAD - 8}V{height - FOOT}"/>'
        yield _label(x + 3, HEAD - 10, _clock(at), "quiet")


def _step(end_s: float) -> float:
    steps = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
    return next((step for step in steps if end_s / step <= 12), 86400)  # noqa: PLR2004 - as many as have room


def _clock(at: float) -> str:
    minutes, seconds = divmod(round(at), 60)
    return f"{minutes}:{seconds:02} min" if minutes else f"{round(at, 3):g} s"


def _row(bar: Bar, y: float, height: int, scale: float) -> Iterator[str]:
    tall = height == TALL_ROW
    mark = "?" if bar.kind is None else mark_of(bar.kind, bar.did)
    word = "unsettled" if bar.kind is None else outcome_text(bar.kind, bar.did)
    took = in_words(bar.ended_s - bar.began_s)
    message = "" if bar.message is None else f": {bar.message[:LONGEST_MESSAGE]}"
    yield f"<g><title>{_text(f'{labelled(bar.uuid, bar.name)} {word} after {took}{message}')}</title>"
    thick = height - 5 if tall else height - 1
    left, right = GUTTER + bar.began_s * scale, GUTTER + bar.ended_s * scale
    yield _box(left, y, max(right - left, 1), thick, f'{GROUPS["look"].colour}" opacity=".45')
    for segment in bar.segments:
        fill = "url(#failed)" if segment.failed else GROUPS[group_of(segment.verb)].colour
        start, wide = GUTTER + segment.began_s * scale, max((segment.ended_s - segment.began_s) * scale, 0.6)
        yield _box(start, y, wide, thick, fill)
    if tall:
        urgent = "bad" if _is_urgent(bar) else "quiet"
        yield _label(20, y + 10, mark, urgent)
        if bar.name:
            yield _label(38, y + 10, short(bar.name, LONGEST_NAME), urgent)
        yield _label(UUID_X, y + 10, bar.uuid, f"uuid {urgent}")
        yield _label(right + 5, y + 10, took, urgent)
    yield "</g>"


def _is_urgent(bar: Bar) -> bool:
    return bar.kind is None or attention_of(bar.kind, bar.did) is not None


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{fill}"/>'


def _label(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:g}" class="{style}">{_text(text)}</text>'


def _text(text: str) -> str:
    """Escape the text; replace characters that XML does not allow."""
    return escape("".join(char if char.isprintable() else "?" for char in text))
