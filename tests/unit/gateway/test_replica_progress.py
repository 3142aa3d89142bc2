"""What is told of a replica's progress: who waits for its engine, and when anything last came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from inferry.core.replica import ReplicaProgress
from inferry.core.request import CHAT
from inferry.gateway.answer import Answer
from inferry.gateway.back_pressure import BackPressure
from inferry.gateway.gateway import Gateway
from inferry.gateway.replica_progress import progress_of
from inferry.gateway.upstream import UpstreamConnection

from .stand import make_gateway

NOW_S = 100.0


class _Stream(Answer):
    """An answer of which only the kind matters here."""

    def __init__(self, is_stream: bool) -> None:
        self.is_stream = is_stream


class _Link(UpstreamConnection):
    """A connection without a network."""

    def __init__(self) -> None:
        self.lost = True  # nothing can be done with it


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    loop = asyncio.new_event_loop()
    yield make_gateway(loop)
    loop.close()


def request_at(
    gateway: Gateway,
    name: str,
    *,
    sent_s: float,
    heard_s: float = 0.0,
    stream: bool = True,
    sent: bool = True,
) -> BackPressure:
    """A request at a replica; `heard_s`: when something last came, if it has."""
    each = BackPressure(gateway, CHAT, None)  # type: ignore[arg-type] # how it arrived plays no part
    each.replica_id, each.sent_s = name, sent_s
    each.activity_s = max(heard_s, sent_s - 0.001)
    each.answer = _Stream(stream) if heard_s else None
    each._connection = _Link() if sent else None
    return each


def test_streams_and_first_bytes_are_told_apart(gateway: Gateway) -> None:
    """Two wait, one of them is a stream that has begun; what came last is its age."""
    active = [
        request_at(gateway, "chat-0", sent_s=90, heard_s=99.5),
        request_at(gateway, "chat-0", sent_s=95),
        request_at(gateway, "chat-1", sent_s=95),
    ]
    assert progress_of(active, {}, NOW_S) == {
        "chat-0": ReplicaProgress(waiting=2, streams=1, heard_s=0.5),
        "chat-1": ReplicaProgress(waiting=1, streams=0, heard_s=None),
    }


def test_a_request_that_has_ended_is_a_sign_too(gateway: Gateway) -> None:
    """A whole answer a second ago, while others wait for theirs."""
    active = [request_at(gateway, "chat-0", sent_s=90, stream=False)]
    assert progress_of(active, {"chat-0": 99.0}, NOW_S)["chat-0"].heard_s == 1.0


def test_a_slow_client_is_not_the_engines_fault(gateway: Gateway) -> None:
    """Nobody waits for the engine where the client does not read, or where the connection is not open yet."""
    paused = request_at(gateway, "chat-0", sent_s=90, heard_s=92)
    paused.pause()
    dialing = request_at(gateway, "chat-1", sent_s=90, sent=False)
    entering = BackPressure(gateway, CHAT, None)  # type: ignore[arg-type]
    assert progress_of([paused, dialing, entering, object()], {}, NOW_S) == {}


def test_what_the_last_replica_sent_does_not_speak_for_the_next(gateway: Gateway) -> None:
    """A stream that goes on elsewhere has heard nothing there yet."""
    moved = request_at(gateway, "chat-1", sent_s=99, heard_s=98)
    assert progress_of([moved], {}, NOW_S)["chat-1"] == ReplicaProgress(1, 0, None)
