"""What is answered to which request, asked without a server between."""

import json
import re
from collections.abc import Sequence

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.errors import Temporary, UsageError
from bringup.daemon.status.endpoint.event_feed import LISTENERS
from bringup.daemon.status.endpoint.source import RequestHandler
from bringup.daemon.status.listener import streams
from bringup.daemon.status.listener.app import LONGEST_BODY, Guarding, make_app
from support.drivers import uuid_of
from support.status import Listener, ManualRun, app_client

pytestmark = pytest.mark.anyio


async def accept_all(uuids: Sequence[str]) -> list[str]:
    return list(uuids)


async def test_readyz_is_200_once_the_host_is_back_and_503_with_the_reason_before() -> None:
    manual = ManualRun()
    async with app_client(make_app(manual.source)) as client:
        before = await client.get("/readyz")
        manual.begin(1)
        manual.instance(1)
        manual.end()
        after = await client.get("/readyz")

    assert (before.status_code, before.text) == (503, "initializing 0 %: starting\n")
    assert (after.status_code, after.text) == (200, "ok\n")


async def test_livez_is_503_once_nothing_of_the_work_ends() -> None:
    manual = ManualRun()
    manual.begin(1)
    async with app_client(make_app(manual.source)) as client:
        alive = await client.get("/livez")
        manual.progress.advanced_at -= 10_000
        stuck = await client.get("/livez")

    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert stuck.status_code == 503
    assert re.fullmatch(r"stuck: nothing has ended for 100\d\d s\n", stuck.text)


async def test_status_metrics_and_page_are_served() -> None:
    manual = ManualRun()
    async with app_client(make_app(manual.source)) as client:
        status, metrics, page = [await client.get(path) for path in ("/status", "/metrics", "/")]

    assert status.json()["format"] == "bringup.status/1"
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "bringup_ready 0.0" in metrics.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")


async def test_the_page_is_self_contained_and_its_policy_lets_nothing_else_run() -> None:
    async with app_client(make_app(ManualRun().source)) as client:
        page = await client.get("/")

    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall("'sha256-[^']+'", policy)) == 2
    assert re.findall(r'(?:src|href)="(?!data:|status"|metrics"|timeline")', page.text) == []
    assert "@import" not in page.text
    assert "url(" not in page.text
    # Its modules are one: none is imported, and no two of them declare the same name.
    declared = re.findall(r"^(?:const|let|function|async function) (\w+)", page.text, re.MULTILINE)
    assert re.findall(r"^(?:import|export)\b", page.text, re.MULTILINE) == []
    assert len(declared) == len(set(declared)) > 40


async def test_every_answer_has_headers_against_sharing() -> None:
    async with app_client(make_app(ManualRun().source)) as client:
        answers = [await client.get(path) for path in ("/", "/status", "/livez", "/nothing", "/timeline")]

    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["compute-1", "COMPUTE-1", "localhost", "127.0.0.1", "[::1]", "10.0.0.4"])
async def test_tcp_requests_with_a_known_host_name_are_answered(host: str) -> None:
    async with app_client(make_app(ManualRun().source, host_names=["compute-1"]), host=f"{host}:8776") as client:
        assert (await client.get("/status")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8776", "127.0.0.1.evil.example", "compute-1.evil.example", "localhost.x"]
)
async def test_tcp_requests_with_a_foreign_host_name_are_refused(host: str) -> None:
    async with app_client(make_app(ManualRun().source, host_names=["compute-1"]), host=host) as client:
        answer = await client.get("/status")

    assert answer.status_code == 421
    assert "compute-1" not in answer.text


async def test_timeline_has_every_bar() -> None:
    manual = ManualRun()
    manual.begin(streams.BARS_A_PIECE * 2 + 3)
    for number in range(streams.BARS_A_PIECE * 2 + 3):
        manual.instance(number, Kind.FAILED if number == 7 else Kind.INITIALIZED)
    async with app_client(make_app(manual.source)) as client:
        found = (await client.get("/timeline")).json()

    assert (found["format"], found["total"]) == ("bringup.timeline/1", streams.BARS_A_PIECE * 2 + 3)
    assert [bar["uuid"] for bar in found["bars"]] == [uuid_of(number) for number in range(found["total"])]
    assert found["last_event_id"] == manual.recorder.feed.last_id


async def test_timeline_without_bars_is_json() -> None:
    async with app_client(make_app(ManualRun().source)) as client:
        assert (await client.get("/timeline")).json()["bars"] == []


@pytest.mark.parametrize(("way", "value"), [("query", "after={}"), ("header", "{}"), ("neither", "")])
async def test_event_stream_continues_after_the_last_event_id(way: str, value: str) -> None:
    manual = ManualRun()
    manual.begin(2)
    where = value.format(manual.recorder.feed.last_id)
    manual.instance(1)
    headers = {"last-event-id": where} if way == "header" else {}
    listener = Listener(make_app(manual.source), "/events", query=where if way == "query" else "", headers=headers)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve)
            assert await listener.start() == 200
            first = await listener.next_chunk()
            manual.instance(2)
            text = await listener.until(f'"uuid":"{uuid_of(2)}","began_s"')
            listener.disconnect()
            await listener.ended.wait()

    assert first.startswith("retry: 2000\n\nevent: progress\ndata: {")
    assert json.loads(first.split("data: ")[1])["run"]["total"] == 2
    assert (uuid_of(1) in text) == (way != "neither")
    assert manual.recorder.feed.listeners == 0


async def test_an_event_stream_ends_when_the_process_does() -> None:
    manual = ManualRun()
    listener = Listener(make_app(manual.source), "/events")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve)
            await listener.start()
            await listener.next_chunk()
            manual.recorder.feed.close()
            assert "event: end\n" in await listener.until("event: end")
            assert await listener.next_chunk() == ""
            await listener.ended.wait()


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    manual = ManualRun()
    listener = Listener(make_app(manual.source, send_s=0.05), "/events")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve)
            await listener.start()
            await listener.ended.wait()
            listener.disconnect()

    assert (manual.recorder.feed.dropped, manual.recorder.feed.listeners) == (1, 0)


async def test_one_event_client_too_many_gets_503_with_retry_after() -> None:
    manual = ManualRun()
    manual.recorder.feed.listeners = LISTENERS
    async with app_client(make_app(manual.source)) as client:
        answer = await client.get("/events")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


WORDS = [("release", "released"), ("retry", "retried")]


def app_with(word: str, handler: RequestHandler) -> Guarding:
    return make_app(ManualRun().source, {word: handler})


@pytest.mark.parametrize(
    ("word", "body", "done"),
    [
        ("pause", {"for": "10min"}, {"paused": ["10min"]}),
        ("pause", {}, {"paused": []}),
        ("resume", {}, {"resumed": []}),
    ],
)
async def test_a_pause_has_a_time_span_and_its_end_has_none(
    word: str, body: dict[str, str], done: dict[str, list[str]]
) -> None:
    async with app_client(app_with(word, accept_all)) as client:
        answer = await client.post(f"/{word}", json=body)

    assert (answer.status_code, answer.json()) == (200, done)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"for": 5}', b'{"for": "\\u001b[2J"}', b'{"for": "' + b"9" * 200 + b'"}']
)
async def test_a_pause_for_what_is_no_time_span_is_refused(body: bytes) -> None:
    async with app_client(app_with("pause", accept_all)) as client:
        answer = await client.post("/pause", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400


@pytest.mark.parametrize("word", ["release", "retry", "pause", "resume"])
async def test_without_a_handler_a_request_is_not_found(word: str) -> None:
    async with app_client(make_app(ManualRun().source)) as client:
        assert (await client.post(f"/{word}", json={"uuids": []})).status_code == 404


@pytest.mark.parametrize(("word", "done"), WORDS)
async def test_release_and_retry_call_their_handler(word: str, done: str) -> None:
    async with app_client(app_with(word, accept_all)) as client:
        answer = await client.post(f"/{word}", json={"uuids": [uuid_of(1)]})

    assert (answer.status_code, answer.json()) == (200, {done: [uuid_of(1)]})


@pytest.mark.parametrize("word", ["release", "retry"])
@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("x: not held; held are: none"), 64), (Temporary("cannot release"), 75)]
)
async def test_a_request_that_is_refused_is_409_with_the_commands_error_and_exit_code(
    word: str, error: Exception, code: int
) -> None:
    async def refuse(_uuids: Sequence[str]) -> list[str]:
        raise error

    async with app_client(app_with(word, refuse)) as client:
        answer = await client.post(f"/{word}", json={"uuids": []})

    assert (answer.status_code, answer.json()) == (409, {"error": str(error), "exit_code": code})


@pytest.mark.parametrize("word", ["release", "retry"])
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b"{}", {}, 400),
        (b'{"uuids": "all"}', {}, 400),
        (b'{"uuids": [1]}', {}, 400),
        (b'{"uuids": ["\\ud800"]}', {}, 400),
        (b'{"uuids": ["\\u001b[2J"]}', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"uuids":' + b"[" * 100_000, {}, 400),
        (b'{"uuids": [' + b"9" * 5_000 + b"]}", {}, 400),
        (b"{}", {"content-length": "9" * 5_000}, 413),
        (b"\xff", {}, 400),
        (b'{"uuids": []}', {"content-type": "text/plain"}, 415),
        (b'{"uuids": []}', {"origin": "http://evil.example"}, 403),
        (b" " * (LONGEST_BODY + 1), {}, 413),
    ],
)
async def test_a_malformed_request_is_400(word: str, content: bytes, headers: dict[str, str], status: int) -> None:
    async with app_client(app_with(word, accept_all)) as client:
        answer = await client.post(f"/{word}", content=content, headers={"content-type": "application/json", **headers})

    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/status", "/timeline", "/events", "/metrics"])
async def test_nothing_else_can_be_changed(path: str) -> None:
    async with app_client(make_app(ManualRun().source, {"release": accept_all})) as client:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await client.request(method, path)).status_code == 405
