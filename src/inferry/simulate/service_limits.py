"""Limits of tenants and deployments in a simulation: the gateway's own admission, with a bank that all simulated
gateway processes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inferry.core.api_key import Caller
from inferry.core.errors import InferryError
from inferry.core.gateway_settings import Tenant
from inferry.core.limits import Limits, Priority
from inferry.gateway.admission import Admission, Admitted, BankStore, Pending, Refused
from inferry.gateway.limit_rules import Estimate
from inferry.gateway.served import ServedDeployment
from inferry.policy.lease_bank import LeaseBank
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.timeline import Timeline

_NO_LIMITS = Limits()
_NO_ESTIMATE = Estimate()


@dataclass(frozen=True, slots=True)
class TimelineClock:
    """The timeline as a `core.clock.Clock`. `begin_wall_s`: what people's clocks showed at its 0; days and months of
    budgets begin by it."""

    timeline: Timeline
    begin_wall_s: float = 0.0

    def now_s(self) -> float:
        return self.timeline.now_s

    def wall_s(self) -> float:
        return self.begin_wall_s + self.timeline.now_s


class ServiceLimits:
    """Of one gateway process."""

    def __init__(
        self, name: str, bank: LeaseBank, tenants: Mapping[str, Tenant], clock: TimelineClock
    ) -> None:
        self._admission = Admission(BankStore(bank, clock, name), clock)
        self._tenants = tenants
        self._callers: dict[tuple[str, Priority], Caller] = {}
        self.tick = self._admission.tick

    def ask(self, request: ServedRequest, served: ServedDeployment) -> InferryError | None:
        """Why it may not enter; None: it may, and `settle` gives back what is reserved for it now."""
        rules = self._admission.rules(self._caller(request), served.name, served.spec.limits)
        estimate = _NO_ESTIMATE
        if rules.counts_tokens or rules.counts_cost or rules.has_caps:
            cap = rules.completion_cap
            answer_tokens = served.estimates.completion_tokens(None if cap is None else cap.value, 1)
            cost_nano = (
                served.rates.cost_nano(request.prompt_tokens, 0, answer_tokens) if rules.counts_cost else 0
            )
            estimate = Estimate(
                request.prompt_tokens, answer_tokens, cost_nano, capped_prompt_tokens=request.prompt_tokens
            )
        answer = self._admission.ask_under(rules, estimate, _hears_nothing)
        assert not isinstance(answer, Pending), "a bank in this process answers at once"
        if isinstance(answer, Refused):
            return answer.error
        request.admitted = answer
        if rules.completion_cap is not None:
            # No client says how long its answer may be: it gets the cap.
            request.answer_tokens = min(request.answer_tokens, rules.completion_cap.value)
        return None

    def settle(self, request: ServedRequest, answer_tokens: int, served: ServedDeployment) -> None:
        admitted = request.admitted
        assert admitted is not None
        prompt_tokens = request.whole_prompt_tokens if answer_tokens else 0
        cost_nano = 0
        if admitted.rules is not None and admitted.rules.counts_cost:
            cost_nano = served.rates.cost_nano(prompt_tokens, request.first_cached_tokens, answer_tokens)
        self._admission.settle(admitted, prompt_tokens + answer_tokens, cost_nano)

    def _caller(self, request: ServedRequest) -> Caller:
        place = (request.tenant, request.priority)
        caller = self._callers.get(place)
        if caller is None:
            tenant = self._tenants.get(request.tenant)
            caller = Caller(
                request.tenant,
                tenant_limits=_NO_LIMITS if tenant is None else tenant.limits,
                priority=request.priority,
            )
            self._callers[place] = caller
        return caller


def _hears_nothing(answer: Admitted | Refused) -> None:
    raise AssertionError("a bank in this process answers at once")
