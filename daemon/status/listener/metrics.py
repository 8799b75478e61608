"""``/metrics``: names by Prometheus' conventions (https://prometheus.io/docs/practices/naming/), base unit seconds.

The families are made on request, from the counts of the recorder: a run pays an addition for each action.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from bringup.daemon.decisions.verdicts import WORDS
from bringup.daemon.status.endpoint.histograms import Histogram
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.source import State, StatusSource
from bringup.daemon.status.listener.documents import held_back, phases
from bringup.daemon.status.snapshot import Snapshot
from bringup.daemon.storage.outbox.base import Pending

__all__ = ["CONTENT_TYPE_LATEST", "text_of"]

OPEN_FILES = "process_open_fds"


def text_of(source: StatusSource, pending: Pending) -> bytes:
    """Return the text for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(source, pending))
    registry.register(_Process(source))
    return generate_latest(registry)


class _Process(Collector):
    """Metrics of the daemon's process, which is not this one: the daemon sends how many files it has open."""

    def __init__(self, source: StatusSource) -> None:
        self._source = source
        self._seen = ProcessCollector(registry=None, pid=lambda: source.pid or "self")

    def collect(self) -> Iterator[Metric]:
        for family in self._seen.collect():
            if self._source.open_files is None or family.name != OPEN_FILES:
                yield family
        if self._source.open_files is not None:
            yield _gauge(OPEN_FILES, "Number of open file descriptors.", self._source.open_files)


class _Families(Collector):
    def __init__(self, source: StatusSource, pending: Pending) -> None:
        self._source, self._pending = source, pending

    def collect(self) -> Iterator[Metric]:
        source, recorder = self._source, self._source.recorder
        snapshot = source.progress.snapshot()
        yield _labelled("bringup_build_info", "Version of bringup; always 1.", "version", {source.version: 1})
        states = {state.value: float(state is source.state()) for state in State}
        yield _labelled("bringup_state", "Current state of the daemon (1 for the active one).", "state", states)
        yield _gauge("bringup_ready", "1 once the host is back, else 0.", float(source.state() is State.READY))
        idle = 0.0 if source.state() is not State.INITIALIZING else snapshot.idle_s
        yield _gauge("bringup_idle_seconds", "For how long nothing of the run has ended; 0 once it is over.", idle)
        yield from _of_run(source, snapshot)
        yield from _of_slots(source, snapshot)
        yield from _of_pace(source, snapshot)
        yield from _of_durations(recorder)
        retries = CounterMetricFamily(
            "bringup_retries", "Attempts that failed and were followed by another.", labels=["phase"]
        )
        for phase, count in {"placement": 0, **recorder.progress.retries}.items():
            retries.add_metric([phase], count)
        yield retries
        yield from _of_reports(self._pending)
        yield from _of_filter(source)
        yield from _of_pause(source)
        feed = recorder.feed
        yield _gauge("bringup_status_listeners", "Who listens to the events now.", feed.listeners)
        dropped = CounterMetricFamily("bringup_status_listeners_dropped", "Listeners that were too slow.")
        dropped.add_metric([], feed.dropped)
        yield dropped


def _of_durations(recorder: Recorder) -> Iterator[Metric]:
    yield _histogram(
        "bringup_action_duration_seconds",
        "How long actions took, by the driver's verb and whether they failed.",
        ("verb", "outcome"),
        recorder.actions,
    )
    yield _histogram(
        "bringup_instance_duration_seconds",
        "How long instances took in their slot, by outcome.",
        ("outcome",),
        recorder.instances,
    )
    yield _histogram(
        "bringup_boot_duration_seconds",
        "How long guests took from their start until they were ready, by what showed it.",
        ("by",),
        recorder.boots,
    )
    yield _histogram("bringup_instance_queue_seconds", "How long instances waited for a slot.", (), recorder.queued)


def _of_run(source: StatusSource, snapshot: Snapshot) -> Iterator[Metric]:
    recorder = source.recorder
    took = {each["phase"]: (each["ended_s"] or recorder.at_s()) - each["began_s"] for each in phases(source)}
    yield _labelled("bringup_phase_duration_seconds", "How long each phase of the start took so far.", "phase", took)
    outcomes = {kind.value: float(count) for kind, count in snapshot.counts.items()}
    yield _labelled("bringup_run_outcomes", "Instances of this run by outcome.", "outcome", outcomes)
    did = {each.value: float(count) for each, count in snapshot.did.items()}
    yield _labelled("bringup_run_did", "Instances of this run by what was done to them.", "did", did)
    yield _gauge("bringup_run_instances", "Instances of this run.", snapshot.total)
    yield _gauge("bringup_run_warnings", "Instances that came back with something gone wrong.", snapshot.warnings)
    yield _gauge(
        "bringup_run_attempt", "Which start of the process this run is in; 0 before there is a run.", snapshot.attempt
    )
    started = source.recorder.started_at.timestamp()
    yield _gauge("bringup_start_timestamp_seconds", "When the process began.", started)
    progress = source.progress
    if progress.ended is not None:
        ended_s = source.recorder.seconds(progress.ended)
        yield _gauge("bringup_run_end_timestamp_seconds", "When the run was over.", started + ended_s)
        began_s = source.recorder.seconds(progress.run_began or progress.began)
        yield _gauge("bringup_run_duration_seconds", "How long the run took.", ended_s - began_s)


def _of_slots(source: StatusSource, snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge("bringup_queue_instances", "Instances that wait for a slot.", snapshot.waiting)
    yield _gauge("bringup_slots", "How many instances are worked on at once at most.", source.slots)
    yield _gauge("bringup_slots_busy", "How many are being worked on.", len(snapshot.running))
    oldest = snapshot.running[0].age_s if snapshot.running else 0.0
    yield _gauge("bringup_slot_oldest_seconds", "How long the slowest of them has had its slot.", oldest)


def _of_pace(source: StatusSource, snapshot: Snapshot) -> Iterator[Metric]:
    pace = snapshot.pace or {}
    limit = pace.get("limit") or source.slots
    yield _gauge("bringup_pace_limit", "How many guests may be started and boot at once now.", limit)
    yield _gauge("bringup_booting_instances", "Guests that were started and are not ready yet.", snapshot.booting)
    if pace.get("stretch") is not None:
        text = "How many times slower than alone guests boot, at the last look."
        yield _gauge("bringup_pace_stretch_ratio", text, pace["stretch"])
    text = "Guests that were started, by what showed that they are ready."
    yield _labelled("bringup_ready_instances", text, "by", pace.get("by", {}))
    text = "Guests that were watched after their boot, by whether they are reachable."
    verdicts = pace.get("verdicts", {})
    yield _labelled("bringup_verified_instances", text, "verdict", {word: verdicts.get(word, 0) for word in WORDS})
    ready = pace.get("ready", {})
    known = {which: ready[f"{which}_s"] for which in ("first", "half", "all") if ready.get(f"{which}_s") is not None}
    text = "When the first, half and all of the guests that were started were ready, since the run began."
    yield _labelled("bringup_time_to_ready_seconds", text, "of", known)


def _of_reports(pending: Pending) -> Iterator[Metric]:
    yield _gauge("bringup_reports_waiting", "Reports that the scheduler has not acknowledged.", pending.count)
    yield _gauge(
        "bringup_report_age_seconds", "Age of the oldest of them; 0 if there is none.", pending.oldest_s or 0.0
    )
    retries = CounterMetricFamily("bringup_report_retries", "Attempts to send a report that were not acknowledged.")
    retries.add_metric([], pending.retries)
    yield retries


def _of_filter(source: StatusSource) -> Iterator[Metric]:
    restored = CounterMetricFamily(
        "bringup_packet_filter_restored", "Rules of guests that another process had removed or changed, restored."
    )
    restored.add_metric([], source.filter.restored)
    yield restored
    in_place = float(source.filter.problem is None)
    yield _gauge(
        "bringup_packet_filter_in_place", "0 where it is not known whether rules are in place, else 1.", in_place
    )


def _of_pause(source: StatusSource) -> Iterator[Metric]:
    is_paused = float(bool(source.progress.paused_until))
    yield _gauge("bringup_starts_paused", "1 while an operator's pause of starts lasts, else 0.", is_paused)
    waiting = held_back(source)
    yield _gauge("bringup_starts_paused_instances", "Instances that wait for the end of a pause of starts.", waiting)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, buckets, total in histogram.series():
        family.add_metric(values, buckets, sum_value=total)
    return family
