"""The rate of a counter, and the board that `inferry status` shows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest

from inferry.admin.status import RATE_WINDOW_S, RateWindow, Status, StatusBoard
from inferry.core.outcome import Ending, Outcome
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.gateway import Gateway
from inferry.testing.manual_clock import ManualClock
from tests.unit.gateway.stand import make_gateway, served, view


def rate(*samples: tuple[float, int]) -> float:
    window = RateWindow()
    for now_s, total in samples:
        window.add(now_s, total)
    return window.per_s()


@pytest.mark.parametrize(
    ("samples", "per_s"),
    [
        ((), 0.0),
        (((0.0, 100),), 0.0),
        (((0.0, 100), (0.0, 200)), 0.0),
        (((0.0, 0), (2.0, 10)), 5.0),
        (((0.0, 0), (1.0, 10), (2.0, 10)), 5.0),
        (((0.0, 7), (5.0, 7), (9.0, 7)), 0.0),
        # after a restart the counter begins anew, and what was before does not count
        (((0.0, 1000), (1.0, 0), (2.0, 4)), 4.0),
        (((0.0, 1000), (1.0, 0)), 0.0),
        # only the last ten seconds count, with both ends
        (((0.0, 0), (5.0, 1000), (RATE_WINDOW_S + 5.0, 1100)), 10.0),
        (((0.0, 0), (RATE_WINDOW_S + 0.1, 1000)), 0.0),
    ],
)
def test_rate(samples: tuple[tuple[float, int], ...], per_s: float) -> None:
    """Tokens per second between the window's ends; nothing known is zero, never negative."""
    assert rate(*samples) == per_s


@pytest.mark.parametrize("seed", range(5))
def test_rate_is_never_negative_and_forgets(seed: int) -> None:
    """Under restarts and pauses the rate stays between zero and the highest seen, and memory is bounded."""
    rng = random.Random(seed)
    window, now_s, total = RateWindow(), 0.0, 0
    for _ in range(2000):
        now_s += rng.choice([0.5, 1.0, 1.0, 3.0])
        total = 0 if rng.random() < 0.02 else total + rng.randrange(100)
        window.add(now_s, total)
        assert 0.0 <= window.per_s() <= 100 / 0.5
        assert len(window._samples) <= RATE_WINDOW_S / 0.5 + 1


# --- board --------------------------------------------------------------------------------------------


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with asyncio.Runner() as runner:
        yield make_gateway(runner.get_loop(), [served("chat"), served("other")])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def board(clock: ManualClock) -> StatusBoard:
    about: dict[str, str | int | float] = {
        "version": "1",
        "pid": 7,
        "file": "/f.yaml",
        "url": "http://127.0.0.1:1",
        "started": 0.5,
    }
    return StatusBoard(clock, about=about)


def show(board: StatusBoard, gateway: Gateway, views: Sequence[ReplicaView], *, settled: bool) -> Status:
    return board.status(
        views,
        gateway.snapshot(),
        [served("chat"), served("other")],
        {"chat": "file:m", "other": "n"},
        settled=settled,
        generation=1,
    )


def test_status_puts_everything_together(gateway: Gateway, board: StatusBoard) -> None:
    """Deployments in the file's order, each with its replicas, their states, addresses and counts."""
    views = [
        view(0, ReplicaState.READY),
        view(1, ReplicaState.FAILED, restarts=2),
        view(0, ReplicaState.STARTING, deployment="other", port=None),
    ]
    for each in views:
        gateway.apply(each)
    gateway.deployments["chat"].balancer.choose()
    status = show(board, gateway, views, settled=True)
    assert (status.pid, status.url, status.status, status.settled) == (
        7,
        "http://127.0.0.1:1",
        "degraded",
        True,
    )
    assert [(each.name, each.model, each.status, each.routing) for each in status.deployments] == [
        ("chat", "file:m", "degraded", "round_robin"),
        ("other", "n", "down", "round_robin"),
    ]
    chat, other = status.deployments
    assert [(r.id, r.state, r.restarts, r.requests, r.in_flight) for r in chat.replicas] == [
        ("chat-0", "ready", 0, 1, 1),
        ("chat-1", "failed", 2, 0, 0),
    ]
    assert [(r.url, r.since) for r in other.replicas] == [(None, 100.0)]
    assert Status.model_validate_json(status.model_dump_json()) == status


def test_rate_comes_from_the_engine_or_from_the_answers(
    gateway: Gateway, board: StatusBoard, clock: ManualClock
) -> None:
    """An engine's own counter is used where it has one; else the usage that went through this gateway."""
    for total in (100, 120):
        views = [view(0, ReplicaState.READY, tokens_generated=total), view(1, ReplicaState.READY)]
        for each in views:
            gateway.apply(each)
        board.sample(views, gateway.snapshot())
        clock.advance(2.0)
        gateway.metrics.observe(
            Outcome(
                id="r",
                request_id="r",
                route="/v1/chat/completions",
                ending=Ending.COMPLETED,
                status=200,
                received_wall_s=0.0,
                duration_s=1.0,
                deployment="chat",
                replica_id="chat-1",
                attempts=1,
                prompt_tokens=5,
                completion_tokens=8,
            )
        )
    chat = show(board, gateway, views, settled=False).deployments[0]
    assert [replica.tokens_per_s for replica in chat.replicas] == [10.0, 4.0]
