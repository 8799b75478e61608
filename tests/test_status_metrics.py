"""What Prometheus reads, read with Prometheus' own parser."""

import re

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.run_events import ActionBegan, InstanceBegan, InstanceEnded, PhaseBegan
from bringup.daemon.status.listener.metrics import text_of
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.needs import Need, NeedKind, NeedState
from support.drivers import uuid_of
from support.status import PLUG, ManualRun

pytestmark = pytest.mark.anyio
UNITS = ("_seconds", "_bytes", "_info")


def families(manual: ManualRun, pending: Pending | None = None) -> dict[str, Metric]:
    text = text_of(manual.source, pending or Pending()).decode()
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    [sample] = [
        sample
        for family in found.values()
        for sample in family.samples
        if (sample.name, sample.labels) == (name, labels)
    ]
    return sample.value


async def test_metrics_during_a_run() -> None:
    manual = ManualRun()
    manual.begin(5)
    manual.instance(1, took_s=0.2)
    manual.instance(2, Kind.FAILED, took_s=3)
    manual.observe(InstanceBegan(uuid_of(3)))
    found = families(manual, Pending(1, 12.5, 3))

    assert value(found, "bringup_ready") == 0
    assert value(found, "bringup_state", state="initializing") == 1
    assert value(found, "bringup_run_outcomes", outcome="failed") == 1
    assert value(found, "bringup_run_did", did="started") == 1
    assert value(found, "bringup_run_did", did="destroyed") == 0
    assert value(found, "bringup_run_instances") == 5
    assert (value(found, "bringup_queue_instances"), value(found, "bringup_slots")) == (2, 4)
    assert value(found, "bringup_slots_busy") == 1
    assert value(found, "bringup_action_duration_seconds_count", verb="plug_vifs", outcome="ok") == 1
    assert value(found, "bringup_action_duration_seconds_sum", verb="plug_vifs", outcome="error") == 3
    assert value(found, "bringup_instance_duration_seconds_bucket", outcome="failed", le="2.5") == 0
    assert value(found, "bringup_instance_duration_seconds_bucket", outcome="failed", le="5.0") == 1
    assert value(found, "bringup_instance_queue_seconds_count") == 3
    assert value(found, "bringup_reports_waiting") == 1
    assert value(found, "bringup_report_age_seconds") == 12.5
    assert value(found, "bringup_report_retries_total") == 3
    assert value(found, "bringup_build_info", version="1.2.3") == 1
    assert "bringup_run_duration_seconds" not in found


async def test_metrics_after_a_run() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1, took_s=2)
    manual.end()
    found = families(manual)

    assert value(found, "bringup_ready") == 1
    assert value(found, "bringup_run_duration_seconds") == 2
    assert value(found, "bringup_phase_duration_seconds", phase="instances") == 2
    assert value(found, "bringup_run_end_timestamp_seconds") - value(found, "bringup_start_timestamp_seconds") == 3
    assert value(found, "bringup_idle_seconds") == 0


async def test_retries_are_counted() -> None:
    manual = ManualRun()
    assert value(families(manual), "bringup_retries_total", phase="placement") == 0
    for detail in ("", "no answer yet", "no answer yet"):
        manual.observe(PhaseBegan("placement", detail))

    assert value(families(manual), "bringup_retries_total", phase="placement") == 2


async def test_metric_names_and_units_follow_prometheus() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(ActionBegan(uuid_of(1), PLUG))
    manual.instance(1)
    manual.end()
    own = [family for name, family in families(manual).items() if name.startswith("bringup_")]

    assert len(own) > 20
    for family in own:
        assert family.documentation.endswith(".")
        assert re.fullmatch(r"[a-z_]+", family.name)
        timed = any(word in family.name for word in ("duration", "age", "timestamp", "oldest", "idle"))
        assert family.name.endswith(UNITS) or not timed, family.name
        # One series an instance would be a series for ever.
        assert all("uuid" not in sample.labels for sample in family.samples)


async def test_metrics_of_the_process_are_there() -> None:
    assert value(families(ManualRun()), "process_resident_memory_bytes") > 0


async def test_a_pause_and_how_many_it_keeps_off() -> None:
    manual = ManualRun()
    assert value(families(manual), "bringup_starts_paused") == 0
    need = Need(kind=NeedKind.PAUSE, name="starts", state=NeedState.ABSENT)
    for number in (1, 2):
        manual.observe(
            InstanceEnded(Outcome(uuid=uuid_of(number), kind=Kind.DEFERRED, because=(), took_s=1, needs=(need,)))
        )
    manual.progress.pause("10:00 UTC", "10:30 UTC")
    found = families(manual)
    assert (value(found, "bringup_starts_paused"), value(found, "bringup_starts_paused_instances")) == (1, 2)
