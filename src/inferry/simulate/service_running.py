"""A deployment of a simulation as it runs: its replicas behind its doors, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from random import Random

from inferry.gateway.demand_seen import traffic_of
from inferry.gateway.parked import LoadNews
from inferry.gateway.snapshot import Snapshot, add_up
from inferry.policy.scaling.observation import Traffic
from inferry.simulate.arrivals import Arrival
from inferry.simulate.failures import Crashes
from inferry.simulate.result import ServiceResult
from inferry.simulate.service import Service
from inferry.simulate.service_budget import SharedBudget
from inferry.simulate.service_counts import Heard, ServiceCounts, demand_of, percentiles
from inferry.simulate.service_door import Door
from inferry.simulate.service_gateway import SimulatedGateway
from inferry.simulate.service_on_demand import OnDemand
from inferry.simulate.service_replicas import Replicas
from inferry.simulate.service_scaling import READ_S, ServiceScaler, autoscaler_of
from inferry.simulate.timeline import Timeline

POLL_S = 1.0
"""Engines and GPUs are asked once a second."""


class RunningService:
    """See the module."""

    def __init__(
        self,
        service: Service,
        gateways: Sequence[SimulatedGateway],
        timeline: Timeline,
        *,
        seed: int,
        interval_s: float,
        drain_s: float,
        has_limits: bool,
        begin_wall_s: float,
        heard: Heard | None,
        budget: SharedBudget,
    ) -> None:
        self.service = service
        self.failures_missed = 0
        """That were planned, and have hit nothing yet."""
        self._timeline = timeline
        self._interval_s = interval_s
        self._random = Random(f"{seed} connections {service.name}").random
        self.counts = ServiceCounts(service.objectives, interval_s, heard)
        rng = Random(f"{seed} replicas {service.name}")
        self.replicas = Replicas(
            service.name,
            service.timing,
            timeline,
            gateways,
            rng,
            health=service.health,
            restart=service.restart,
            drain_s=drain_s,
            drain_max_s=service.drain_max_s,
            start_jitter=service.start_jitter,
            standby=service.standby,
            crashes=Crashes(service.crashes_per_hour, str(seed)) if service.crashes_per_hour else None,
        )
        self.on_demand = OnDemand(
            service,
            self.replicas,
            timeline,
            self._requests_now,
            lambda: self.counts.requests,
            self._tell_doors,
        )
        spec = service.spec()
        self.doors: list[Door] = []
        for number, gateway in enumerate(gateways):
            door = Door(
                spec,
                gateway,
                self.replicas,
                self.counts,
                timeline,
                has_limits=has_limits,
                seed=f"{seed} gateway {number} {service.name}",
                on_load_wanted=self.on_demand.want,
            )
            gateway.doors[service.name] = door
            self.doors.append(door)
        self.replicas.begin(service.replicas if service.load_wait_s is None else 0)
        self.on_demand.begin()
        autoscaler = autoscaler_of(service)
        looks_often = autoscaler is not None and autoscaler.every_s < 2 * POLL_S
        tells_gateways = service.routing.policy == "gpu_aware" or len(gateways) > 1
        if tells_gateways or looks_often:
            timeline.at(READ_S, self._poll, tells_gateways)
        self.scaler = ServiceScaler(
            service,
            autoscaler,
            self.replicas,
            timeline,
            self.traffic,
            begin_wall_s,
            budget,
            is_polled=tells_gateways or looks_often,
        )
        budget.add(service, self.replicas)
        self.scaler.begin()
        timeline.at(interval_s, self._close_interval)

    def arrive(self, arrival: Arrival) -> None:
        """At one of the gateway processes: the kernel gives connections to any of them."""
        doors = self.doors
        if len(doors) == 1:
            doors[0].arrive(arrival)
            return
        doors[int(self._random() * len(doors))].arrive(arrival)

    # --- what is told of it ---------------------------------------------------------------------------

    def traffic(self) -> Traffic | None:
        """As all gateways tell it, together."""
        name = self.service.name
        snapshots = []
        for door in self.doors:
            served = door.served
            snapshots.append(
                Snapshot(
                    waiting={name: served.waiting},
                    stranded={name: len(served.stranded)},
                    demand={name: served.demand},
                    in_flight={slot.id: slot.in_flight for slot in served.balancer.slots.values()},
                )
            )
        return traffic_of(add_up(snapshots), name, self.replicas.lives)

    def _tell_doors(self, news: LoadNews) -> None:
        for door in self.doors:
            door.served.parked.on_news(news)

    def _requests_now(self) -> int:
        return self.counts.requests - self.counts.over_count

    def _waiting(self) -> int:
        return sum(door.served.waiting + len(door.served.stranded) for door in self.doors)

    def _poll(self, tells_gateways: bool) -> None:
        now_s = self._timeline.now_s
        loads = self.replicas.poll()
        if tells_gateways:
            for door in self.doors:
                for load in loads:
                    door.served.balancer.learn(load, now_s)
        self._timeline.at(now_s + POLL_S, self._poll, tells_gateways)

    def _close_interval(self) -> None:
        waiting = self._waiting()
        lives = self.replicas.lives.values()
        self.counts.close_interval(
            demand_of([door.served.demand for door in self.doors]),
            in_flight=self._requests_now() - waiting,
            waiting=waiting,
            serving=sum(each.serves and not each.standby for each in lives),
            coming=sum(each.is_coming and not each.standby for each in lives),
            wanted=self.scaler.wanted,
        )
        self._timeline.at(self._timeline.now_s + self._interval_s, self._close_interval)

    # --- the end --------------------------------------------------------------------------------------

    def result(self, end_s: float) -> ServiceResult:
        """After the last event; nothing may come later."""
        service, counts, replicas = self.service, self.counts, self.replicas
        replicas.note_all()
        spans = replicas.past.spans
        replica_s = fsum(max(min(ended_s, end_s) - began_s, 0.0) for began_s, ended_s in spans)
        past = replicas.past
        prompt_tokens = past.prompt_tokens
        gpu_hours = replica_s / 3600 * service.gpus_per_replica
        return ServiceResult(
            deployment=service.name,
            requests=counts.requests,
            completed=counts.completed,
            failed=dict(sorted(counts.failed.items())),
            rejected={name: dict(sorted(each.items())) for name, each in sorted(counts.rejected.items())},
            under_way=self._requests_now(),
            duration_s=end_s,
            prompt_tokens=counts.prompt_tokens,
            answer_tokens=counts.answer_tokens,
            in_slo=counts.in_slo,
            late_under_way=counts.late(end_s),
            attainment=counts.attainment(end_s),
            goodput_per_s=counts.in_slo / end_s if counts.has_slo and end_s else None,
            ttft=percentiles(counts.ttft),
            itl=percentiles(counts.itl),
            e2e=percentiles(counts.e2e),
            queue=percentiles(counts.queue),
            gpu_hours=gpu_hours,
            replica_hours=replica_s / 3600,
            mean_replicas=replica_s / end_s if end_s else float(service.replicas),
            cost=gpu_hours * service.price_per_gpu_hour,
            hit_ratio=past.cached_tokens / prompt_tokens if prompt_tokens else None,
            preemptions=past.preemptions,
            retries=counts.retries,
            resumes=counts.resumes,
            crashes=past.crashes,
            set_aside=past.set_aside,
            failures_missed=self.failures_missed,
            decisions=self.scaler.decisions,
            direction_changes_per_hour=self.scaler.direction_changes * 3600 / end_s if end_s else 0.0,
            by_tenant=dict(sorted(counts.by_tenant.items())),
            timeline=counts.timeline(),
        )
