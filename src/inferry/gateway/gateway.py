"""The gateway's state: which deployments there are, who serves them, what is under way.

One owner: everything here is touched by the event loop's thread only. The control process
tells it about replicas by `apply` and `gone`; it tells of failures by the callback it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from inferry.core.api_key import ApiKey
from inferry.core.clock import Clock
from inferry.core.errors import EngineUnreachable, NoReadyReplica
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.gateway_settings import Tenant
from inferry.core.name_lookup import NameLookup
from inferry.core.outcome import Outcome, UsageFrom
from inferry.core.public_names import PublicName
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.gateway.access_log import AccessLog
from inferry.gateway.account import Account, begun_of
from inferry.gateway.admission import TICK_S, Admission, BankStore, LeaseStore
from inferry.gateway.answer import Counts
from inferry.gateway.callers import Callers
from inferry.gateway.edge import Edge
from inferry.gateway.filters.classifier_call import BorrowedReplica, ClassifierPools
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.large_bodies import FilterThreads
from inferry.gateway.filters.rule import Rule
from inferry.gateway.handing_over import HandingOver
from inferry.gateway.health import deployments_health
from inferry.gateway.host import Active
from inferry.gateway.in_turn import InTurn
from inferry.gateway.metrics import GatewayMetrics
from inferry.gateway.no_replica import no_replica_error
from inferry.gateway.parked import LoadNews
from inferry.gateway.prompt_truth import PromptChecks
from inferry.gateway.public_names import PublicNames
from inferry.gateway.replica_watch import OnProgress, ReplicaWatch
from inferry.gateway.route_facts import session_headers
from inferry.gateway.served import ServedDeployment, ServedSpec
from inferry.gateway.shadow import Shadows
from inferry.gateway.snapshot import Snapshot
from inferry.gateway.traces import Traces
from inferry.gateway.upstream import UpstreamPool
from inferry.ledger.inflight_book import encode_begun
from inferry.ledger.request_log import RequestLog
from inferry.policy.lease_bank import LeaseBank
from inferry.policy.routing import Slot

log = structlog.get_logger()

SWEEP_S = 1.0
_NO_TENANTS: Mapping[str, Tenant] = {}
_NO_NAMES: Mapping[str, PublicName] = {}


def compile_filters(served: Sequence[ServedSpec]) -> dict[str, FilterSet]:
    """By deployment, those that have any; what several share is compiled once. Takes seconds for very long lists.

    Raises ConfigError that names the filter and the way out.
    """
    compiled: dict[int, Rule] = {}
    return {spec.name: FilterSet(spec.filters, compiled) for spec in served if spec.filters}


class Gateway:
    """Routes exchanges to replicas. Knows nothing of how requests came in or replicas came up."""

    def __init__(
        self,
        settings: GatewaySettings,
        served: Sequence[ServedSpec],
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_replica_failure: Callable[[str, str], None] = lambda replica_id, reason: None,
        on_load_wanted: Callable[[str], None] = lambda deployment: None,
        on_progress: OnProgress = lambda replicas: None,
        tenants: Mapping[str, Tenant] = _NO_TENANTS,
        names: Mapping[str, PublicName] = _NO_NAMES,
        leases: LeaseStore | None = None,
        request_log: RequestLog | None = None,
        workers: int = 1,
        generation: int = 1,
    ) -> None:
        """`leases`: who keeps the limits' counts; left out, this process does. `request_log`: left out, outcomes are
        only counted. `workers`: how many gateway processes share the replicas."""
        self._clock = clock
        self.now_s, self.wall_s = clock.now_s, clock.wall_s
        self.loop, self._lookup = loop, NameLookup(loop)
        self._workers = workers
        self._log = request_log
        self.counts: Counts = [0] if request_log is None else request_log.counts
        self.callers = Callers(clock)
        self.classifiers = ClassifierPools(loop)
        self.filter_threads = FilterThreads(loop)
        self.prompt_checks: PromptChecks | None = None
        self.admission = Admission(BankStore(LeaseBank(), clock) if leases is None else leases, clock)
        self.on_replica_failure = on_replica_failure
        self._on_load_wanted = on_load_wanted
        self.deployments: dict[str, ServedDeployment] = {}
        self._leaving: dict[str, ServedDeployment] = {}
        self._adapters: Mapping[str, Mapping[str, str]] = {}
        self.views: dict[str, ReplicaView] = {}
        self.pools: dict[str, UpstreamPool] = {}
        self.active: set[Active] = set()
        self._handing_over = HandingOver(self.active, loop, self.now_s, self._one_fault_stays_one)
        self.watch = ReplicaWatch(self.now_s, on_replica_failure, on_progress, self.active)
        self.on_replica_failure = self.watch.on_failure
        self.metrics = GatewayMetrics()
        self._access_log: AccessLog | None = None
        self._traces = None if settings.traces is None else Traces(settings.traces)
        self.public_names = PublicNames(Shadows(self, loop).send)
        self.configure(settings, served, tenants, generation, compile_filters(served), names)
        self.closing = False
        self.created_wall_s = self.wall_s()

    def configure(
        self,
        settings: GatewaySettings,
        served: Sequence[ServedSpec],
        tenants: Mapping[str, Tenant],
        generation: int,
        filters: Mapping[str, FilterSet],
        names: Mapping[str, PublicName] = _NO_NAMES,
    ) -> None:
        """Serve by this from now on. Requests under way end as they began; replicas and counts stay.

        What cannot be done is found out before: nothing here fails.
        """
        before = self.deployments
        self.settings = settings
        self.generation = generation
        if settings.access_log is False and self._access_log is not None:
            self._access_log.flush()
        self._access_log = (self._access_log or AccessLog()) if settings.access_log else None
        self.callers.configure(settings, tenants)
        self.deployments = {}
        for spec in served:
            deployment = before.pop(spec.name, None) or self._leaving.pop(spec.name, None)
            if deployment is None:
                deployment = ServedDeployment(spec, filters.get(spec.name), self._on_load_wanted)
            else:
                deployment.configure(spec, filters.get(spec.name))
            self.deployments[spec.name] = deployment
            deployment.share_slots(self._workers, self.now_s())
        self._leaving |= {name: each for name, each in before.items() if each.balancer.slots}
        self._configure_prompt_checks(served)
        self._names = names
        self.set_adapters(self._adapters)
        self.edge = Edge(settings, generation, self.public_names.kept_headers | session_headers(served))
        for deployment in before.values():
            deployment.leave_file(self.now_s())

    def set_adapters(self, adapters: Mapping[str, Mapping[str, str]]) -> None:
        """By deployment: LoRA adapters that its engines loaded while they run."""
        self._adapters = adapters
        for deployment in self.deployments.values():
            deployment.set_live_lora(adapters.get(deployment.name, {}), self._names)
        self.public_names.configure(self.deployments, self._names)

    def _configure_prompt_checks(self, served: Sequence[ServedSpec]) -> None:
        specs = {spec.name: spec.prompt_truth for spec in served if spec.prompt_truth is not None}
        if self.prompt_checks is not None:
            self.prompt_checks.configure(specs)
        elif specs:
            self.prompt_checks = PromptChecks(specs, loop=self.loop, clock=self._clock)

    # --- for exchanges --------------------------------------------------------------------------------

    @property
    def names(self) -> Sequence[str]:
        """All that clients may send as `model`."""
        return self.public_names.all

    def deployment_for(self, model: str, key: ApiKey | None = None) -> ServedDeployment:
        return self.public_names.lookup(model, key)

    def names_for(self, key: ApiKey | None) -> Iterable[str]:
        return self.public_names.visible_to(key)

    def no_replica(self, deployment: ServedDeployment, because: str) -> NoReadyReplica:
        views = [view for view in self.views.values() if view.deployment == deployment.name]
        return no_replica_error(deployment.name, views, because)

    def on_sent(self, account: Account, replica_id: str, attempts: int) -> int:
        """The request goes to a replica: note it where a crash of this process finds it."""
        if self._log is None:
            return 0
        begun = encode_begun(begun_of(account, replica_id, attempts))
        if account.book_slot is None:
            return self._log.begin(begun)
        if not account.relaying:
            self.counts[account.book_slot] = 0  # what the last attempt had, nobody got
        return self._log.move(account.book_slot, begun)

    def borrow(self, deployment: str) -> BorrowedReplica | None:
        """A replica of a guard's deployment for one question; None if none takes requests now."""
        guard = self.public_names.own(deployment)
        slot = None if guard is None else guard.balancer.choose()
        if guard is None or not isinstance(slot, Slot):
            return None
        taken = slot
        balancer = guard.balancer
        return BorrowedReplica(self.pools[slot.id], guard.upstream_model, lambda: balancer.release(taken))

    def on_outcome(self, account: Account, outcome: Outcome) -> None:
        """Every exchange reports here once, before the last byte of its answer."""
        if self._log is not None and account.entered_s is not None:
            self._log.finish(account.book_slot, outcome)
        self.watch.on_outcome(account, outcome)
        deployment = account.deployment
        if deployment is not None and outcome.usage_from is UsageFrom.ENGINE and account.request is not None:
            deployment.estimates.learn(
                account.request.body, outcome.prompt_tokens or 0, outcome.completion_tokens or 0
            )
            self._judge_stream(account, outcome)
        self.metrics.observe(outcome)
        if deployment is not None and account.entry is not None and account.entry.admitted is not None:
            deployment.demand.observe(outcome)
        if account.course is not None and outcome.deployment is not None:
            self.metrics.observe_named(account.course.name, outcome.deployment)
        if account.entry is not None and account.entry.findings is not None:
            self.metrics.observe_findings(outcome.deployment or "", account.entry.findings)
        if self._access_log is not None:
            self._access_log.record(outcome, account.arrival.client)
        if self._traces is not None and account.arrival.trace is not None:
            self._traces.record(outcome, account.arrival.trace, account.arrival.client)

    def _judge_stream(self, account: Account, outcome: Outcome) -> None:
        """The count of a stream's prompt comes with its last event: too late for a warning, not for the metric, nor
        to know where the engine cuts."""
        check = None if account.entry is None else account.entry.prompt_check
        is_stream = account.answer is not None and account.answer.is_stream
        if check is not None and is_stream and outcome.prompt_tokens is not None:
            check.verdict(outcome.prompt_tokens)

    # --- for the fleet --------------------------------------------------------------------------------

    def apply(self, view: ReplicaView) -> None:
        """A replica is new, moved, or in another state."""
        deployment = self.deployments.get(view.deployment) or self._leaving.get(view.deployment)
        if deployment is None:  # removed, and its last replicas are on their way out
            return
        before = self.views.get(view.id)
        self.views[view.id] = view
        pool = self.pools.get(view.id)
        if view.endpoint is None:
            if pool is not None:
                pool.close()
        elif pool is None or pool.closed or before is None or before.endpoint != view.endpoint:
            if pool is not None:
                pool.close()
            self.pools[view.id] = UpstreamPool(
                view.endpoint, self.loop, self.settings.connect_timeout_s, self._lookup
            )
        state = view.state
        if (view.endpoint is None or view.standby) and state in (ReplicaState.READY, ReplicaState.SUSPECT):
            state = ReplicaState.PENDING  # nobody can be sent to nowhere, and to a reserve nobody should be
        self.watch.on_view(deployment, view, deployment.balancer.put(view.id, state, view.weight))
        deployment.share_slots(self._workers, self.now_s())
        if state is ReplicaState.READY and deployment.stranded:
            with self._one_fault_stays_one():
                deployment.wake_stranded()

    def learn(self, loads: Iterable[ReplicaLoad]) -> None:
        """What engines tell of their load: advice for routing."""
        now_s = self.now_s()
        for load in loads:
            view = self.views.get(load.replica_id)
            deployment = None if view is None else self.deployments.get(view.deployment)
            if deployment is not None:
                deployment.balancer.learn(load, now_s)

    def gone(self, replica_id: str) -> None:
        """A replica is no more."""
        self.watch.forget(replica_id)
        view = self.views.pop(replica_id, None)
        pool = self.pools.pop(replica_id, None)
        if pool is not None:
            pool.close()
        if view is None:
            return
        deployment = self.deployments.get(view.deployment) or self._leaving.get(view.deployment)
        if deployment is not None:
            deployment.balancer.drop(replica_id)
            deployment.share_slots(self._workers, self.now_s())
            if not deployment.balancer.slots:
                self._leaving.pop(view.deployment, None)

    def hand_over(self, replica_id: str, because: str) -> None:
        """This replica hangs, or must go: what it has under way goes on elsewhere, where that can be."""
        self._handing_over.begin(replica_id, because)

    def on_load_news(self, news: LoadNews) -> None:
        """How the load of a deployment's model goes."""
        if news.deployment in self.deployments:
            self.deployments[news.deployment].parked.on_news(news)

    def snapshot(self) -> Snapshot:
        """The numbers of this process."""
        # Those that are gone from the file hold requests until their replicas have ended.
        everywhere = (*self.deployments.values(), *self._leaving.values())
        slots = [slot for each in everywhere for slot in each.balancer.slots.values()]
        if self.prompt_checks is not None:
            self.metrics.prompt_truth = dict(self.prompt_checks.counts)
        if self._log is not None:
            self.metrics.journal = self._log.troubles()
        return Snapshot(
            metrics=self.metrics,
            journal_waiting=0 if self._log is None else self._log.journal.waiting,
            waiting={each.name: each.waiting for each in self.deployments.values()},
            stranded={each.name: len(each.stranded) for each in self.deployments.values()},
            demand={each.name: each.demand for each in self.deployments.values()},
            in_flight={slot.id: slot.in_flight for slot in slots},
            sent={slot.id: slot.served for slot in slots},
            failed=self.watch.failures(),
            barred=dict.fromkeys(self.watch.barred(), 1),
        )

    def health(self) -> dict[str, object]:
        """What /health says: `status` of all and of each deployment; while the gateway ends, draining."""
        on_demand = {name for name, each in self.deployments.items() if each.on_demand}
        overall, deployments = deployments_health(self.deployments, self.views.values(), on_demand)
        return {
            "status": "draining" if self.closing else overall,
            "generation": self.generation,
            "deployments": deployments,
        }

    # --- lifetime -------------------------------------------------------------------------------------

    async def tick_forever(self) -> None:
        """Keep leases and queues going; once a second, look after requests and connections."""
        swept_s = self.now_s()
        in_turn = InTurn[Active](round(SWEEP_S / TICK_S))
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self.now_s()
            with self._one_fault_stays_one():
                self.admission.tick(now_s)
            with self._one_fault_stays_one():
                self.watch.tick(now_s)
            for deployment in (*self.deployments.values(), *self._leaving.values()):
                with self._one_fault_stays_one():
                    deployment.tick(now_s)
            for exchange in in_turn.next(self.active):
                with self._one_fault_stays_one():
                    exchange.check(now_s)
            if now_s - swept_s >= SWEEP_S:
                swept_s = now_s
                self._sweep()

    def _sweep(self) -> None:
        for pool in self.pools.values():
            pool.close_idle()
        self.classifiers.close_idle()
        if self._access_log is not None:
            self._access_log.flush()
        if self._log is not None:
            self._log.flush()

    def abort_all(self) -> None:
        """Drain time is over: every request under way ends with an error that says so."""
        for exchange in list(self.active):
            with self._one_fault_stays_one():
                exchange.abort(EngineUnreachable("The gateway is shutting down.", retry_after_s=5.0))

    @contextmanager
    def _one_fault_stays_one(self) -> Iterator[None]:
        """A fault of ours in one request must not end all the others."""
        try:
            yield
        except Exception:
            log.exception("exchange_broke")

    async def close(self) -> None:
        """Cut all upstream connections."""
        self.abort_all()
        for pool in self.pools.values():
            await pool.wait_closed()
        await self.classifiers.close()
        self.filter_threads.close()
        if self.prompt_checks is not None:
            await self.prompt_checks.close()
        if self._log is not None:
            self._log.close()
        if self._access_log is not None:
            self._access_log.flush()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
