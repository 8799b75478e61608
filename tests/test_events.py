"""The catalogue of events and the code say the same."""

import re
from collections import defaultdict

from support.event_calls import PUT_TOGETHER, ROOT, calls

ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \| ([a-z, ]+) \|(.*?)\| (.+) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
CATALOGUE = {
    event: (set(levels.split(", ")), set(re.findall(r"`([a-z_]+)`", keys)))
    for event, levels, keys, _ in ROW.findall(PAGE)
}
# Keys that are put together in the code.
MORE_KEYS = {
    "run.ended",
    "run.revised",
    "status.listens",
    *(event for events in PUT_TOGETHER.values() for event in events),
}


def test_every_event_of_the_code_is_in_the_catalogue_and_no_other() -> None:
    in_code = {call.event: call.where for call in calls()}
    missing = {event: where for event, where in in_code.items() if event not in CATALOGUE}

    assert missing == {}, "add a row to docs/events.md"
    assert CATALOGUE.keys() - in_code.keys() == set(), "nothing logs these any more"


def test_no_event_has_two_rows() -> None:
    events = [event for event, *_ in ROW.findall(PAGE)]

    assert len(events) == len(set(events)) > 70


def test_levels_are_those_of_the_code() -> None:
    levels: dict[str, set[str]] = defaultdict(set)
    for call in calls():
        levels[call.event].add(call.level)

    assert {event: found for event, (found, _) in CATALOGUE.items()} == levels


def test_keys_are_those_of_the_code() -> None:
    keys: dict[str, set[str]] = defaultdict(set)
    for call in calls():
        keys[call.event] |= call.keys
    wrong = {
        event: (sorted(found), sorted(keys[event]))
        for event, (_, found) in CATALOGUE.items()
        if (not found >= keys[event] if event in MORE_KEYS else found != keys[event])
    }

    assert wrong == {}, "docs/events.md and the code differ (keys there, keys in the code)"


def test_an_event_is_a_noun_and_what_it_did() -> None:
    parts = {event: event.partition(".") for event in CATALOGUE}

    assert [event for event, (noun, _, verb) in parts.items() if not (noun and verb)] == []
