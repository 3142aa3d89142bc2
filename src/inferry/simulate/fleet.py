"""Simulated replicas behind the real balancer: each request is routed by the code that routes real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, NoReplica, RouteFacts, Seen, Slot
from inferry.simulate.replica import EngineTiming, SimulatedReplica, SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.traces import TracedRequest


class SimulatedFleet:
    """One deployment. Its balancer knows of a request what a gateway knows, and hears what a gateway tells."""

    def __init__(self, balancer: Balancer, replicas: int, timing: EngineTiming, timeline: Timeline) -> None:
        self.requests: list[SimulatedRequest] = []
        self._balancer = balancer
        self._timeline = timeline
        self._under_way: dict[SimulatedRequest, tuple[Slot, RouteFacts]] = {}
        self._replicas = {
            id: SimulatedReplica(id, timing, timeline, self._on_first_token, self._on_end)
            for id in (f"simulated-{number}" for number in range(replicas))
        }
        for id in self._replicas:
            balancer.put(id, ReplicaState.READY)

    @property
    def replicas(self) -> Sequence[SimulatedReplica]:
        return tuple(self._replicas.values())

    def expect(self, arrivals: Iterable[TracedRequest], speed: float = 1.0) -> None:
        """Let these requests come, `speed` times as fast as they did."""
        for arrival in arrivals:
            request = SimulatedRequest(
                arrival.at_s / speed, arrival.prompt_tokens, arrival.answer_tokens, arrival.blocks
            )
            self.requests.append(request)
            self._timeline.at(request.arrival_s, lambda request=request: self._arrive(request))  # type: ignore[misc]

    def _arrive(self, request: SimulatedRequest) -> None:
        facts = RouteFacts(request.prompt_tokens, request.answer_tokens, request.blocks)
        slot = self._balancer.choose(facts=facts, now_s=self._timeline.now_s)
        assert not isinstance(slot, NoReplica), slot
        self._under_way[request] = (slot, facts)
        self._replicas[slot.id].submit(request)

    def _on_first_token(self, request: SimulatedRequest) -> None:
        slot, facts = self._under_way[request]
        self._balancer.first_byte(slot, facts, request.ttft_s, self._timeline.now_s)

    def _on_end(self, request: SimulatedRequest) -> None:
        slot, facts = self._under_way.pop(request)
        now_s = self._timeline.now_s
        seen = Seen(
            answer_began=True,
            ttft_s=request.ttft_s,
            duration_s=now_s - request.arrival_s,
            prompt_tokens=request.prompt_tokens,
            cached_tokens=request.cached_tokens,
            completion_tokens=request.answer_tokens,
        )
        self._balancer.release(slot, facts, seen, now_s)
