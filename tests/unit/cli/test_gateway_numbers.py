"""What the fleet is told of the gateways' counts."""

from __future__ import annotations

from dataclasses import replace

from inferry.cli.gateway_numbers import DRAIN_SAMPLE_S, SAMPLE_S, GatewayNumbers
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.snapshot import Snapshot
from inferry.policy.rollout import Served
from inferry.testing.manual_clock import ManualClock

VIEW = ReplicaView(
    id="chat-0", deployment="chat", engine="vllm", simulated=False, state=ReplicaState.READY, endpoint=None,
    since_wall_s=0.0, restarts=0,
)  # fmt: skip
DRAINING = replace(VIEW, state=ReplicaState.DRAINING)


async def ask(numbers: GatewayNumbers, silent: tuple[str, ...] = (), **counts: dict[str, int]) -> None:
    async def answer() -> Snapshot:
        return Snapshot(silent=silent, **counts)  # type: ignore[arg-type]

    await numbers.ask(answer)


async def test_old_numbers_say_nothing_of_a_draining_replica() -> None:
    """It counts as busy until somebody has asked after it began to drain: it may have got a request meanwhile."""
    clock = ManualClock()
    numbers = GatewayNumbers(clock)
    await ask(numbers)
    assert numbers.held_by("chat-0") == 0
    numbers.on_view(DRAINING)
    assert numbers.held_by("chat-0") == 1
    clock.advance(0.1)
    await ask(numbers, in_flight={"chat-0": 3})
    assert numbers.held_by("chat-0") == 3
    await ask(numbers)
    assert numbers.held_by("chat-0") == 0


async def test_a_silent_process_may_hold_what_nobody_knows_of() -> None:
    """What it told last says nothing of now: the replica is busy until all processes answer, or are no more."""
    clock = ManualClock()
    numbers = GatewayNumbers(clock)
    numbers.on_view(DRAINING)
    clock.advance(0.1)
    await ask(numbers, silent=("gateway-1",))
    assert numbers.held_by("chat-0") == 1
    await ask(numbers, silent=("gateway-1",), in_flight={"chat-0": 3})
    assert numbers.held_by("chat-0") == 3
    await ask(numbers)
    assert numbers.held_by("chat-0") == 0


async def test_it_is_asked_more_often_while_somebody_waits() -> None:
    """From draining to its end, whether the replica is forgotten then or only drained by hand."""
    numbers = GatewayNumbers(ManualClock())
    assert numbers.pause_s == SAMPLE_S
    numbers.on_view(DRAINING)
    assert numbers.pause_s == DRAIN_SAMPLE_S
    numbers.on_view(replace(VIEW, state=ReplicaState.STOPPED))
    assert numbers.pause_s == SAMPLE_S
    numbers.on_view(DRAINING)
    numbers.forget("chat-0")
    assert numbers.pause_s == SAMPLE_S


async def test_what_a_canary_is_judged_by() -> None:
    """Attempts, and those of them that failed, over all gateway processes."""
    numbers = GatewayNumbers(ManualClock())
    assert numbers.served_by("chat-0") == Served()
    await ask(numbers, sent={"chat-0": 9}, failed={"chat-0": 2})
    assert numbers.served_by("chat-0") == Served(9, 2)
