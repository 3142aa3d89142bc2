"""Simulated replicas behind real balancers: each request is routed by the code that routes real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inferry.core.load_traces import TracedRequest
from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, NoReplica, RouteFacts, Seen, Slot
from inferry.simulate.replica import SimulatedReplica
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming


class SimulatedFleet:
    """One deployment, and the balancers of its gateway processes, which take requests in turn. Each knows of a request
    what a gateway knows, and hears what a gateway tells; none knows of the others' requests."""

    def __init__(
        self,
        balancers: Sequence[Balancer],
        replicas: int,
        timing: EngineTiming,
        timeline: Timeline,
        others: Sequence[EngineTiming] = (),
    ) -> None:
        """`others`: how fast the first replicas are, where they differ."""
        timings = [*others, *[timing] * (replicas - len(others))]
        self.requests: list[SimulatedRequest] = []
        self._balancers = balancers
        self._timeline = timeline
        self._under_way: dict[SimulatedRequest, tuple[Balancer, Slot, RouteFacts]] = {}
        self._replicas = {
            f"simulated-{number}": SimulatedReplica(f"simulated-{number}", each, timeline, self)
            for number, each in enumerate(timings)
        }
        for balancer in balancers:
            for id in self._replicas:
                balancer.put(id, ReplicaState.READY)

    @property
    def replicas(self) -> Sequence[SimulatedReplica[SimulatedRequest]]:
        return tuple(self._replicas.values())

    def expect(self, arrivals: Iterable[TracedRequest], speed: float = 1.0) -> None:
        """Let these requests come, `speed` times as fast as they did."""
        for number, arrival in enumerate(arrivals):
            request = SimulatedRequest(
                arrival.at_s / speed, arrival.prompt_tokens, arrival.answer_tokens, arrival.blocks
            )
            self.requests.append(request)
            balancer = self._balancers[number % len(self._balancers)]
            self._timeline.at(request.arrival_s, self._arrive, request, balancer)

    def _arrive(self, request: SimulatedRequest, balancer: Balancer) -> None:
        facts = RouteFacts(
            request.prompt_tokens, request.answer_tokens, request.blocks, _conversation(request.blocks)
        )
        slot = balancer.choose(facts=facts, now_s=self._timeline.now_s)
        assert not isinstance(slot, NoReplica), slot
        self._under_way[request] = (balancer, slot, facts)
        self._replicas[slot.id].submit(request)

    def first_token(self, request: SimulatedRequest) -> None:
        balancer, slot, facts = self._under_way[request]
        balancer.first_byte(slot, facts, request.ttft_s, self._timeline.now_s)

    def token(self, request: SimulatedRequest) -> None:
        """Only told where tokens are, one by one."""

    def preempted(self, request: SimulatedRequest) -> None:
        """Nobody outside the engine knows."""

    def ended(self, request: SimulatedRequest) -> None:
        balancer, slot, facts = self._under_way.pop(request)
        now_s = self._timeline.now_s
        seen = Seen(
            answer_began=True,
            ttft_s=request.ttft_s,
            duration_s=now_s - request.arrival_s,
            prompt_tokens=request.prompt_tokens,
            cached_tokens=request.cached_tokens,
            completion_tokens=request.answer_tokens,
        )
        balancer.release(slot, facts, seen, now_s)


def _conversation(blocks: Sequence[int]) -> str | None:
    """By how it begins, as a gateway tells conversations apart that have no name. The first block is often the same
    for all."""
    return str(blocks[:2][-1]) if blocks else None
