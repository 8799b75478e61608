"""The alerts and the dashboard ask for metrics that there are, with labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import bringup
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.status.listener.metrics import text_of
from bringup.daemon.storage.outbox.base import Pending
from support.status import ManualRun

FOLDER = Path(bringup.__file__).parents[1] / "docs" / "monitoring"
METRIC = re.compile(r"\b(bringup_[a-z_]+)(\{[^}]*\})?")
LABEL = re.compile(r'(\w+)=~?"([^"]*)"')
pytestmark = pytest.mark.anyio


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    return found


def samples() -> dict[str, list[dict[str, str]]]:
    manual = ManualRun()
    manual.begin(2)
    manual.instance(1)
    manual.instance(2, Kind.FAILED)
    manual.end()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text_of(manual.source, Pending(1, 5)).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


async def test_every_expression_asks_for_what_there_is() -> None:
    known = samples()
    asked = [rule["expr"] for rule in alerts()] + [target["expr"] for each in panels() for target in each["targets"]]
    named = [(name, dict(LABEL.findall(labels))) for text in asked for name, labels in METRIC.findall(text)]

    assert len(named) > 20
    assert {name for name, _ in named} - known.keys() == set()
    for name, labels in named:
        wanted = {label: value for label, value in labels.items() if label != "instance"}
        assert any(wanted.items() <= sample.items() for sample in known[name]), (name, wanted)


def test_every_alert_reports_what_is_wrong_and_where_to_look() -> None:
    assert len({rule["alert"] for rule in alerts()}) == len(alerts()) > 5
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "look"}


def test_the_panels_of_the_dashboard_do_not_cover_each_other() -> None:
    squares = [
        (x, y)
        for place in (each["gridPos"] for each in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(squares) == len(set(squares))
    assert max(x for x, _ in squares) < 24
