"""A run as a picture, and the journal as a timeline."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bringup.daemon.decisions import actions
from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.status.timeline import FAILED_COLOUR, GROUPS, MARKS, Bar, Segment, Timeline, group_of
from bringup.daemon.status.timeline_svg import MOST_TALL_ROWS, svg
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.process import ENVIRONMENT, run
from support.records import instance, uuid_of

SVG = "{http://www.w3.org/2000/svg}"


def a_timeline(*bars: Bar) -> Timeline:
    return Timeline(title="compute-1: 3 instances", subtitle="run 1", bars=bars, counts={"failed": 1})


def bar(number: int, kind: Kind | None = Kind.INITIALIZED, message: str | None = None) -> Bar:
    segments = (Segment("get_info", 1, 1.5), Segment("plug_vifs", 1.5, 3, failed=kind is Kind.FAILED))
    return Bar(uuid=uuid_of(number), began_s=1, ended_s=3, kind=kind, message=message, segments=segments)


def drawn(timeline: Timeline) -> ET.Element:
    return ET.fromstring(svg(timeline))  # noqa: S314 - it is our own


def texts(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def rows(picture: ET.Element) -> list[ET.Element]:
    return picture.findall(f"{SVG}g")


def test_an_instance_is_a_row_with_its_sign_its_uuid_and_how_long_it_took() -> None:
    picture = drawn(a_timeline(bar(1), bar(2, Kind.FAILED, "plug_vifs: no answer"), bar(3, None)))

    first, second, third = rows(picture)
    assert [element.text for element in first.iter(f"{SVG}text")] == ["✓", uuid_of(1), "2.0 s"]
    assert first.findtext(f"{SVG}title") == f"{uuid_of(1)} initialized after 2.0 s"
    assert second.findtext(f"{SVG}title") == f"{uuid_of(2)} failed after 2.0 s: plug_vifs: no answer"
    assert third.findtext(f"{SVG}title") == f"{uuid_of(3)} unsettled after 2.0 s"
    fills = [element.get("fill") for element in second.iter(f"{SVG}rect")]
    assert fills == [GROUPS["look"].colour, GROUPS["look"].colour, "url(#failed)"]


@pytest.mark.parametrize(
    ("did", "mark", "text"),
    [
        (Did.STARTED, "✓", "started"),
        (Did.LEFT_RUNNING, "✓", "left running"),
        (Did.STAYS_OFF, "–", "stays off"),  # noqa: RUF001 - the dash is meant
        (Did.DESTROYED, "∅", "destroyed"),
        (Did.SET_TO_ERROR, "✕", "set to error"),
    ],
)
def test_the_tick_is_for_guests_that_run(did: Did, mark: str, text: str) -> None:
    (row,) = rows(drawn(a_timeline(replace(bar(1), did=did))))

    assert next(row.iter(f"{SVG}text")).text == mark
    assert row.findtext(f"{SVG}title") == f"{uuid_of(1)} {text} after 2.0 s"


def test_a_row_has_the_name_of_its_instance_before_its_uuid() -> None:
    named = Bar(uuid=uuid_of(1), name="web", began_s=0, ended_s=2, kind=Kind.FAILED)

    (row,) = rows(drawn(a_timeline(named)))

    assert [element.text for element in row.iter(f"{SVG}text")] == ["✕", "web", uuid_of(1), "2.0 s"]
    assert row.findtext(f"{SVG}title") == f"web ({uuid_of(1)}) failed after 2.0 s"


def test_the_axis_goes_to_the_end() -> None:
    assert {"0 s", "1 s", "2 s", "3 s"} <= set(texts(drawn(a_timeline(bar(1)))))
    long = Bar(uuid=uuid_of(1), began_s=0, ended_s=600, kind=Kind.FAILED)
    assert "10:00 min" in texts(drawn(a_timeline(long)))


def test_a_run_without_instances_is_a_picture_too() -> None:
    assert rows(drawn(Timeline(title="t", subtitle="s", bars=(), counts={}))) == []


def test_in_a_large_run_only_bars_that_need_attention_have_text() -> None:
    urgent = [bar(9999, Kind.FAILED), replace(bar(9998), did=Did.SET_TO_ERROR)]
    picture = drawn(a_timeline(*(bar(number) for number in range(MOST_TALL_ROWS)), *urgent))

    assert len(rows(picture)) == MOST_TALL_ROWS + 2
    assert [text for text in texts(picture) if text.startswith("0000")] == [uuid_of(9999), uuid_of(9998)]
    assert int(picture.get("height", "0")) < MOST_TALL_ROWS * 5


def test_what_looks_like_markup_stays_text() -> None:
    odd = bar(1, Kind.FAILED, 'x: </title><script>alert("1")</script>\x00')
    timeline = Timeline(title="<rack> & 'co'", subtitle="s", bars=(odd,), counts={})

    picture = drawn(timeline)

    assert texts(picture)[0] == "<rack> & 'co'"
    assert list(picture.iter(f"{SVG}script")) == []


def test_every_action_has_a_colour_of_its_group() -> None:
    verbs = {found.verb for found in vars(actions).values() if isinstance(getattr(found, "verb", None), str)}

    grouped = [verb for group in GROUPS.values() for verb in group.verbs]
    assert len(verbs) > 10
    assert verbs - set(grouped) == set()
    assert len(grouped) == len(set(grouped))
    assert group_of("something_new") == "look"


def test_the_outcome_of_an_instance_has_a_sign_and_no_two_have_the_same() -> None:
    assert set(MARKS) == set(Kind)
    assert len(set(MARKS.values())) == len(MARKS)
    colours = [group.colour for group in GROUPS.values()]
    assert len({*colours, FAILED_COLOUR}) == len(colours) + 1


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    instances = [instance(number) for number in (1, 2, 3)]
    fails = Fault(verb="plug_vifs", uuid=uuid_of(2), error="VirtualInterfacePlugError")
    return a_computer(tmp_path).having(placement={"wait": 60}).guests(instances, fails).records(instances)


def test_a_run_of_the_journal_is_drawn(computer: Computer, tmp_path: Path) -> None:
    assert computer.run().code == 0
    target = tmp_path / "run.svg"

    written = run("plot", *computer.arguments, env=ENVIRONMENT)
    filed = run("plot", "--run", "last", "-o", str(target), *computer.arguments, env=ENVIRONMENT)

    assert (written.code, filed.code, filed.out) == (0, 0, "")
    assert written.out == target.read_text(encoding="utf-8")
    titles = [row.findtext(f"{SVG}title") or "" for row in rows(ET.fromstring(written.out))]  # noqa: S314 - same
    assert sorted(title[:43] for title in titles) == [f"vm {number} ({uuid_of(number)})" for number in (1, 2, 3)]
    [failure] = [title for title in titles if "failed (set to error) after" in title and "plug_vifs: " in title]
    assert failure.startswith(f"vm 2 ({uuid_of(2)})")
    told = run("plot", "--json", *computer.arguments, env=ENVIRONMENT)
    bars = {bar["uuid"]: bar for bar in map(json.loads, told.out.splitlines())}
    assert {uuid: bar["kind"] for uuid, bar in bars.items()} == {
        uuid_of(1): "initialized",
        uuid_of(2): "failed",
        uuid_of(3): "initialized",
    }
    assert {uuid: bar["did"] for uuid, bar in bars.items()} == {
        uuid_of(1): "left_running",
        uuid_of(2): "set_to_error",
        uuid_of(3): "left_running",
    }
    assert [one["failed"] for one in bars[uuid_of(2)]["segments"] if one["verb"] == "plug_vifs"] == [True]


@pytest.mark.parametrize("which", ["last", "ffffffff"])
def test_a_run_that_is_not_there_is_reported(computer: Computer, which: str) -> None:
    ended = run("plot", "--run", which, *computer.arguments, env=ENVIRONMENT)

    assert (ended.code, ended.out) == (64, "")
    assert ended.err == f"bringup: --run {which}: no run, or more than one, has this id; bringup history lists them\n"


def test_a_file_that_cannot_be_written_is_reported(computer: Computer, tmp_path: Path) -> None:
    assert computer.run().code == 0

    ended = run("plot", "-o", str(tmp_path / "none" / "x.svg"), *computer.arguments, env=ENVIRONMENT)

    assert ended.code == 64
    assert "none/x.svg: cannot be written (No such file or directory)" in ended.err
