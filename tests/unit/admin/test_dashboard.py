"""What the dashboard's pages are told: traffic, events, live changes, usage, logs, and the gateway behind them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from inferry.admin.dashboard.api import make_dashboard_router
from inferry.admin.dashboard.events import EVENTS_MAX, FleetEvents
from inferry.admin.dashboard.live_feed import BEHIND_MAX, LiveFeed, changes
from inferry.admin.dashboard.pages import static_files
from inferry.admin.dashboard.passage import make_passage_router
from inferry.admin.dashboard.traffic import FIELDS, FINE_POINTS, TrafficHistory
from inferry.admin.error_pages import install_error_pages
from inferry.core.outcome import Ending
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.demand import Demand
from inferry.gateway.snapshot import Snapshot
from inferry.ledger.usage import UsageAnswer, UsageQuestion, UsageRow, UsageSums

STATIC = Path(__file__).parents[3] / "src/inferry/admin/dashboard/static"


def snapshot(requests: int, *, failed: int = 0, tokens: int = 0, ttft_s: float | None = None) -> Snapshot:
    """The counters of one deployment, `chat`."""
    made = Snapshot(in_flight={"chat-0": 2, "my-chat-0": 1}, waiting={"chat": 3})
    made.metrics.requests["chat", "chat_completions", Ending.COMPLETED, 200] = requests
    made.metrics.requests["chat", "chat_completions", Ending.FAILED, 502] = failed
    made.metrics.tokens["chat", "completion"] = tokens
    demand = made.demand["chat"] = Demand()
    if ttft_s is not None:
        for _ in range(10):
            demand.observe_first_token(ttft_s)
    return made


def point(history: TrafficHistory, name: str = "chat") -> dict[str, float | None]:
    """The newest, by column."""
    return dict(zip(FIELDS, history.series(name)[-1], strict=True))


def test_rates_are_differences() -> None:
    """Counters of two looks, over the time between them; percentiles only of what came meanwhile."""
    history = TrafficHistory()
    history.note(100.0, snapshot(1000, failed=5, tokens=50))
    assert history.series() == []
    history.note(102.0, snapshot(1020, failed=6, tokens=150, ttft_s=0.25))
    now = point(history)
    assert now["requests_per_s"] == pytest.approx(10.5)
    assert now["errors_per_s"] == pytest.approx(0.5)
    assert now["output_tokens_per_s"] == pytest.approx(50)
    assert now["ttft_p50_ms"] == pytest.approx(250, rel=0.05)
    assert (now["in_flight"], now["waiting"]) == (2, 3)
    assert now["itl_p50_ms"] is None
    assert point(history, "")["in_flight"] == 3
    history.note(103.0, snapshot(1020, failed=6, tokens=150, ttft_s=0.25))
    assert point(history)["ttft_p50_ms"] is None
    assert point(history)["requests_per_s"] == 0


def test_counters_that_begin_anew() -> None:
    """A rate is never negative."""
    history = TrafficHistory()
    history.note(0.0, snapshot(1000))
    history.note(1.0, snapshot(5))
    assert point(history)["requests_per_s"] == 5


def test_history_is_bounded_and_thinned() -> None:
    """Seconds for a quarter of an hour, minutes beyond; looks within the same second add nothing."""
    history = TrafficHistory()
    for second in range(1200):
        history.note(float(second), snapshot(second * 7))
        history.note(second + 0.1, snapshot(second * 7))
    assert len(history.series("chat")) == FINE_POINTS
    minutes = history.series("chat", coarse=True)
    assert len(minutes) == 19
    assert {each[1] for each in minutes} == {7.0}


def test_a_deployment_that_is_gone() -> None:
    """Its points go with it."""
    history = TrafficHistory()
    history.note(0.0, snapshot(1))
    history.note(1.0, snapshot(2))
    assert set(history.last()) == {"", "chat"}
    history.note(2.0, Snapshot())
    assert set(history.last()) == {""}


def view(state: ReplicaState, message: str = "", name: str = "chat-0") -> ReplicaView:
    """A replica in this state."""
    return ReplicaView(
        id=name, deployment="chat", engine="simulated", simulated=True, state=state, endpoint=None, since_wall_s=0.0,
        restarts=0, message=message,
    )  # fmt: skip


def test_events_are_changes() -> None:
    """The same state twice is one event; numbers go on, the oldest are let go."""
    events = FleetEvents()
    events.note(view(ReplicaState.STARTING), 1.0)
    events.note(view(ReplicaState.STARTING), 2.0)
    events.note(view(ReplicaState.READY), 3.0)
    assert [(each.number, each.state, each.at) for each in events.since(0)] == [
        (1, "starting", 1.0),
        (2, "ready", 3.0),
    ]
    assert events.since(2) == []
    events.forget("chat-0")
    events.note(view(ReplicaState.READY), 4.0)
    assert [each.number for each in events.since(2)] == [3]
    for number in range(EVENTS_MAX + 10):
        events.note(view(ReplicaState.FAILED, str(number)), 5.0)
    assert len(events.since(0)) == EVENTS_MAX


def test_changes_are_rows() -> None:
    """New, different and gone ones; sections without any are left out."""
    before = {"replicas": {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}, "about": {"status": {"x": 1}}}
    now = {"replicas": {"a": {"n": 1}, "b": {"n": 2}, "d": {"n": 1}}, "about": {"status": {"x": 1}}}
    assert changes(before, now) == {"replicas": {"b": {"n": 2}, "c": None, "d": {"n": 1}}}


def told(event: bytes) -> tuple[str, Any]:
    """Name and data."""
    name, data = event.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_the_feed_looks_once_for_all() -> None:
    """Everything first, then what changed; two pages cost one look, and none is made while nobody is there."""
    looks = 0

    async def look() -> dict[str, dict[str, Any]]:
        nonlocal looks
        looks += 1
        return {"replicas": {"a": {"n": looks}, "b": {"n": 0}}}

    feed = LiveFeed(look, pause_s=0.01)
    await asyncio.sleep(0.03)
    assert looks == 0
    first, second = feed.events(), feed.events()
    name, parts = told(await anext(first))
    assert (name, parts["replicas"]["b"]) == ("all", {"n": 0})
    assert told(await anext(second))[0] == "all"
    assert feed.viewers == 2
    name, parts = told(await anext(first))
    assert (name, parts) == ("change", {"replicas": {"a": {"n": 2}}})
    assert await anext(second) == b'event: change\ndata: {"replicas":{"a":{"n":2}}}\n\n'
    await first.aclose()  # type: ignore[attr-defined]
    await second.aclose()  # type: ignore[attr-defined]
    seen = looks
    await asyncio.sleep(0.05)
    assert looks == seen
    assert feed.viewers == 0


async def test_the_feed_ends_its_pages() -> None:
    """A server that is about to end does not wait for them."""

    async def look() -> dict[str, dict[str, Any]]:
        return {}

    feed = LiveFeed(look)
    page = feed.events()
    await anext(page)
    feed.close()
    assert [event async for event in page] == []
    assert feed.viewers == 0


async def test_a_look_that_fails_ends_the_pages() -> None:
    """A page would show old figures as live ones; ended, it comes again, and is told when it can be."""
    looks = 0

    async def look() -> dict[str, dict[str, Any]]:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise ValueError("a fault of ours")
        return {"replicas": {"a": {"n": looks}}}

    feed = LiveFeed(look, pause_s=0.001)
    page = feed.events()
    await anext(page)
    looking = feed._looking
    assert looking is not None
    assert [event async for event in page] == []
    with pytest.raises(ValueError, match="a fault of ours"):
        await looking
    page = feed.events()
    assert told(await anext(page)) == ("all", {"replicas": {"a": {"n": 3}}})
    await page.aclose()  # type: ignore[attr-defined]


async def test_a_slow_page_starts_anew() -> None:
    """It is not sent what it can't keep up with: at most so many updates wait, then all is told once."""
    looks = 0

    async def look() -> dict[str, dict[str, Any]]:
        nonlocal looks
        looks += 1
        return {"replicas": {"a": {"n": looks}}}

    feed = LiveFeed(look, pause_s=0.001)
    page = feed.events()
    await anext(page)
    while looks < BEHIND_MAX * 3:
        await asyncio.sleep(0.005)
    name, parts = told(await anext(page))
    assert name == "all"
    assert parts["replicas"]["a"]["n"] > BEHIND_MAX
    await page.aclose()  # type: ignore[attr-defined]


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """The routes over made-up figures."""
    (tmp_path / "chat-0.log").write_text("".join(f"line {number}\n" for number in range(1000)))
    (tmp_path / "other.txt").write_text("not a log")
    history = TrafficHistory()
    history.note(0.0, snapshot(0))
    history.note(1.0, snapshot(3))
    asked: list[UsageQuestion] = []

    async def usage(question: UsageQuestion) -> UsageAnswer:
        asked.append(question)
        sums = UsageSums(
            completed=2, prompt_tokens=10, completion_tokens=5, cost_nano=1_234_567_890_123_456_789
        )
        return UsageAnswer([UsageRow(("acme",), sums)], sums)

    async def look() -> dict[str, dict[str, Any]]:
        return {}

    app = FastAPI()
    install_error_pages(app)
    app.include_router(
        make_dashboard_router(
            feed=LiveFeed(look),
            traffic=history,
            events=FleetEvents(),
            log_folder=tmp_path,
            usage=usage,
            currency=lambda: "EUR",
        )
    )
    app.state.asked = asked
    return TestClient(app)


def test_usage_is_exact(client: TestClient) -> None:
    """Money is a decimal text to the last billionth."""
    answer = client.get("/usage", params={"by": "tenant", "since": 5}).json()
    assert answer["rows"][0] | {"cost": ""} == answer["total"] | {"cost": "", "group": ["acme"]}
    assert answer["rows"][0]["cost"] == "1234567890.123456789"
    assert (answer["currency"], answer["total"]["requests"]) == ("EUR", 2)
    assert client.app.state.asked == [UsageQuestion(by=("tenant",), since_wall_s=5.0)]  # type: ignore[attr-defined]


def test_usage_by_something_else(client: TestClient) -> None:
    """The error names it, and what was meant."""
    error = client.get("/usage", params={"by": "tenat"}).json()["error"]
    assert error["param"] == "by"
    assert "Did you mean 'tenant'" in error["message"]


def test_logs(client: TestClient) -> None:
    """The last lines; a name that is no log's is an error, and no way to other files."""
    assert client.get("/logs").json() == ["chat-0"]
    assert client.get("/logs/chat-0", params={"lines": 2}).json()["lines"] == ["line 998", "line 999"]
    assert "Did you mean 'chat-0'" in client.get("/logs/chat-1").json()["error"]["message"]
    assert client.get("/logs/..%2Fother").status_code == 404
    assert client.get("/logs/chat-0", params={"lines": 0}).status_code == 400


def test_traffic_is_a_table(client: TestClient) -> None:
    """Its fields once, then points."""
    answer = client.get("/traffic", params={"deployment": "chat"}).json()
    assert answer["fields"] == list(FIELDS)
    assert answer["points"][0][1] == 3.0
    assert client.get("/traffic", params={"span": "year"}).status_code == 400
    assert client.get("/events").json() == []


async def gateway(request: httpx.Request) -> httpx.Response:
    """Tells what it was asked."""
    heard = {
        "path": request.url.path,
        "key": request.headers.get("authorization"),
        "cookie": request.headers.get("cookie"),
    }
    return httpx.Response(418, json=heard, headers={"retry-after": "3", "set-cookie": "a=b"})


def test_the_way_to_the_gateway() -> None:
    """The gateway's key comes in a header of its own; neither the session nor our credential goes on, nor another path."""
    app = FastAPI()
    install_error_pages(app)
    app.include_router(
        make_passage_router(httpx.AsyncClient(transport=httpx.MockTransport(gateway)), "http://gateway")
    )
    client = TestClient(app)
    headers = {
        "authorization": "Bearer admin",
        "x-gateway-key": "inf-user",
        "cookie": "inferry_session_80=secret",
    }
    answer = client.post("/gateway/v1/chat/completions", json={}, headers=headers)
    assert answer.status_code == 418
    assert answer.json() == {"path": "/v1/chat/completions", "key": "Bearer inf-user", "cookie": None}
    assert answer.headers["retry-after"] == "3"
    assert "set-cookie" not in answer.headers
    assert client.get("/gateway/v1/models").json()["key"] is None
    for path in ("metrics", "v1/../metrics", "health", "v1/files"):
        assert client.get(f"/gateway/{path}").status_code == 404


def test_a_gateway_that_is_away() -> None:
    """An error in our form."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    app = FastAPI()
    install_error_pages(app)
    app.include_router(
        make_passage_router(httpx.AsyncClient(transport=httpx.MockTransport(refuse)), "http://gateway")
    )
    answer = TestClient(app).get("/gateway/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_unreachable")


# --- the files ----------------------------------------------------------------------------------------


def test_nothing_comes_from_elsewhere() -> None:
    """No address of another server, no text that becomes HTML, nothing inline that the policy would stop."""
    for name, (content, _, _) in static_files().items():
        text = content.decode()
        if name.startswith("uplot"):
            continue
        addresses = set(re.findall(r"https?://[^\s\"'`$]+", text)) - {"http://www.w3.org/2000/svg"}
        assert addresses <= {"http://127.0.0.1:8000"}, name
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|document\.write|\beval\(| style=| onclick=", text
        ), name


def test_all_words_are_translated() -> None:
    """Each English text that pages show has its Chinese one, and none is left over."""
    pages = [path for path in STATIC.glob("*.js") if path.name not in ("uplot.js", "words.js")]
    used = {word for path in pages for word in re.findall(r'\bt\("((?:[^"\\]|\\.)*)"\)', path.read_text())}
    table = (STATIC / "words.js").read_text()
    known = {quoted or bare for quoted, bare in re.findall(r'(?:"([^"]+)"|\b(\w+)): "', table)}
    assert len(used) > 100
    assert used == known
