"""What stands before a request until it may go to a replica: filters, limits, and its turn, in that order.

Each step answers at once or calls back later; nothing here waits, and nobody is told twice.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Protocol

from inferry.core.api_key import Caller
from inferry.core.errors import InferryError, InvalidRequest, NoReadyReplica
from inferry.core.request import InferenceRequest, Route
from inferry.gateway.admission import Admission, Admitted, Pending, Refused
from inferry.gateway.callers import Callers
from inferry.gateway.estimates import capped_prompt_tokens
from inferry.gateway.filters.classifier_call import BorrowedReplica, CheckCalls, ClassifierPools
from inferry.gateway.filters.large_bodies import LARGE_BYTES, FilterThreads, Looked, look_at
from inferry.gateway.filters.verdict import Blocked, Masked, Verdict
from inferry.gateway.key_case import refuse_other_case
from inferry.gateway.limit_rules import Estimate
from inferry.gateway.prompt_truth import HEADER, PromptCheck, PromptChecks, rejection
from inferry.gateway.served import ServedDeployment
from inferry.gateway.turns import Answer, Ticket

_NO_ESTIMATE = Estimate()


class Applicant(Protocol):
    """The exchange, as an entry sees it. Exactly one of the two is called, once."""

    def on_entered(self) -> None:
        """It may go to a replica."""

    def on_refused(self, error: InferryError) -> None: ...


class Gatekeeper(Protocol):
    """What an entry needs of the gateway."""

    now_s: Callable[[], float]
    callers: Callers
    admission: Admission
    classifiers: ClassifierPools
    filter_threads: FilterThreads
    prompt_checks: PromptChecks | None

    def borrow(self, deployment: str) -> BorrowedReplica | None: ...


class Entry:
    """One request on its way in; later, what must be given back for it."""

    __slots__ = (
        "_applicant", "_calls", "_gateway", "_look", "_pending", "_request", "_rules", "_ticket", "admitted", "caller", "deployment",
        "findings", "is_over", "prompt_check", "prompt_tokens", "warning",
    )  # fmt: skip

    def __init__(
        self,
        applicant: Applicant,
        gateway: Gatekeeper,
        caller: Caller,
        deployment: ServedDeployment,
        request: InferenceRequest,
    ) -> None:
        self._applicant = applicant
        self._gateway = gateway
        self.caller = caller
        self.deployment = deployment
        self._request = request
        self.admitted: Admitted | None = None
        self._pending: Pending | None = None
        self._ticket: Ticket | None = None
        self._look: asyncio.Future[Looked] | None = None
        self._calls: CheckCalls | None = None
        self.is_over = False
        self.prompt_check: PromptCheck | None = None
        self.warning: str | None = None
        """Of the prompt, for the client."""
        self.findings: set[tuple[str, str]] | None = None
        """(action, name) of the filters that found something."""
        self._rules = gateway.admission.rules(caller, deployment.name, deployment.spec.limits)
        self.prompt_tokens = deployment.estimates.prompt_tokens(len(request.body))
        """Estimated."""

    @property
    def length_max(self) -> int | None:
        """The cap that an answer gets whose client names none."""
        cap = self._rules.completion_cap
        return None if cap is None else cap.value

    def header_lines(self) -> bytes:
        """`x-ratelimit-*`, where limits stand over the request; what filters and the prompt's count found."""
        lines = self._gateway.admission.header_lines_of(self._rules)
        if self.findings is not None:
            flags = sorted(rule for action, rule in self.findings if action == "flag")
            if flags:
                lines += f"x-inferry-flags: {', '.join(flags)}\r\n".encode("ascii")
        if self.warning is not None:
            lines += HEADER + b": " + self.warning.encode("ascii") + b"\r\n"
        return lines

    @property
    def route(self) -> Route:
        return self._request.route

    def begin(self) -> None:
        """Go as far as is possible now."""
        filters, caller, request = self.deployment.filters, self.caller, self._request
        filtered = filters is not None and filters.looks_at_requests(caller.tenant, caller.key_id)
        is_restricted = caller.key is not None and caller.key.deployments is not None
        if filtered or is_restricted or self._rules.has_caps:
            try:
                refuse_other_case(request.body)
            except InvalidRequest as error:
                self._applicant.on_refused(error)
                return
        if not filtered:
            self._ask_limits()
            return
        assert filters is not None
        look = functools.partial(look_at, filters, request.route, request.body, caller.tenant, caller.key_id)
        if len(request.body) < LARGE_BYTES:
            self._on_looked(look())
        else:
            self._look = self._gateway.filter_threads.run(look, self._on_looked)

    def _on_looked(self, looked: Looked) -> None:
        self._look = None
        if not self._take(looked.verdict):
            return
        if looked.checks:
            self._calls = CheckCalls(
                looked.checks, self._gateway.classifiers, self._gateway, self._on_checked
            )
            self._calls.start()
            return
        self._ask_limits()

    def _on_checked(self, verdict: Verdict) -> None:
        self._calls = None
        if self._take(verdict):
            self._ask_limits()

    def _take(self, verdict: Verdict) -> bool:
        self.note_all(verdict)
        if isinstance(verdict, Blocked):
            self._applicant.on_refused(verdict.error)
            return False
        if isinstance(verdict, Masked):
            self._request.body = verdict.body
        return True

    def note_all(self, verdict: Verdict) -> None:
        """Remember which filters found something."""
        for rule in verdict.flags:
            self.note("flag", rule)
        if isinstance(verdict, Masked):
            for rule in verdict.rules:
                self.note("mask", rule)
        elif isinstance(verdict, Blocked):
            self.note("block", verdict.rule)

    @property
    def filtered_by(self) -> str | None:
        """A filter that blocked or masked; one that blocked first."""
        if self.findings is None:
            return None
        return next((rule for action, rule in sorted(self.findings) if action != "flag"), None)

    def note(self, action: str, rule: str) -> None:
        if self.findings is None:
            self.findings = set()
        self.findings.add((action, rule))

    def _ask_limits(self) -> None:
        checks = self._gateway.prompt_checks
        if checks is not None:
            self.prompt_check = checks.start(self.deployment.name, self._request.route, self._request.body)
        answer = self._gateway.admission.ask_under(self._rules, self._estimate(), self._on_limits)
        if isinstance(answer, Pending):
            self._pending = answer
        else:
            self._on_limits(answer)

    def _estimate(self) -> Estimate:
        rules = self._rules
        if not rules.counts_tokens and not rules.counts_cost and not rules.has_caps:
            return _NO_ESTIMATE
        request, deployment, prompt_tokens = self._request, self.deployment, self.prompt_tokens
        completion_tokens = deployment.estimates.completion_tokens(
            request.max_tokens or self.length_max, request.choices
        )
        cost_nano = (
            deployment.rates.cost_nano(prompt_tokens, 0, completion_tokens) if rules.counts_cost else 0
        )
        return Estimate(
            prompt_tokens,
            completion_tokens,
            cost_nano,
            request.max_tokens,
            request.choices,
            request.max_tokens_param,
            request.choices_param,
            capped_prompt_tokens(len(request.body)),
        )

    def _on_limits(self, answer: Admitted | Refused) -> None:
        self._pending = None
        if isinstance(answer, Refused):
            self._applicant.on_refused(answer.error)
            return
        self.admitted = answer
        self.deployment.demand.arrived += 1
        if self.deployment.awaits_model:
            self._park()
        else:
            self._ask_turn()

    def _park(self) -> None:
        full = self.deployment.parked.add(self, self._gateway.now_s())
        if full is not None:
            self._applicant.on_refused(full)

    def park_again(self) -> bool:
        """It had its turn, and found no replica. True: it waits for the model, and enters again later."""
        if self.is_over or not self.deployment.awaits_model:
            return False
        self._park()
        return True

    def _ask_turn(self) -> None:
        turns = self.deployment.turns
        if turns.slots is None:
            self._enter()
            return
        ticket = self._ticket = Ticket(
            self,
            self.caller.tenant,
            self.prompt_tokens,
            self._request.max_tokens,
            self.caller.priority,
            self._gateway.callers.weight(self.caller.tenant),
        )
        result = turns.ask(ticket, self._gateway.now_s())
        if result is Answer.GO:
            self._enter()
        elif result is not Answer.WAIT:
            self._applicant.on_refused(result)

    def _enter(self) -> None:
        check = self.prompt_check
        if check is not None and check.may_exceed:
            check.when_counted(self._foresee)
        else:
            self._applicant.on_entered()

    def _foresee(self) -> None:
        """Its engine is known to cut prompts: will it cut this one?"""
        check = self.prompt_check
        assert check is not None
        if self.is_over:
            return
        finding = check.foreseen()
        if finding is not None:
            if check.rejects:
                self._applicant.on_refused(rejection(finding))
                return
            self.warning = finding.warning()
        self._applicant.on_entered()

    # --- Waiter ---------------------------------------------------------------------------------------

    def on_turn(self) -> None:
        self._enter()

    def on_refused(self, error: InferryError) -> None:
        self._applicant.on_refused(error)

    # --- ParkedRequest --------------------------------------------------------------------------------

    def on_loaded(self) -> None:
        if self._ticket is not None and self._ticket.is_running:
            self._enter()
        else:
            self._ask_turn()

    def on_not_loaded(self, error: NoReadyReplica) -> None:
        self._applicant.on_refused(error)

    # --- the end --------------------------------------------------------------------------------------

    def progress(self, completion_tokens: int) -> None:
        """It runs, and has generated so much up to now."""
        if self._ticket is not None:
            self.deployment.turns.progress(self._ticket, completion_tokens)

    def settle(self, prompt_tokens: int, completion_tokens: int, cost_nano: int) -> None:
        """The request is over, wherever it had got to: give back what it held. Once."""
        self.is_over = True
        if self._look is not None:
            self._look.cancel()
        if self._calls is not None:
            self._calls.cancel()
        if self._pending is not None:
            self._pending.cancel()
        self.deployment.parked.leave(self)
        ticket = self._ticket
        if ticket is not None:
            now_s = self._gateway.now_s()
            if ticket.is_running:
                self.deployment.turns.done(ticket, prompt_tokens, completion_tokens, now_s)
            else:
                self.deployment.turns.leave(ticket, now_s)
        if self.admitted is not None:
            self._gateway.admission.settle(self.admitted, prompt_tokens + completion_tokens, cost_nano)

    def withdraw(self) -> None:
        """In place of `settle`: the request goes to another deployment, and this one shall not count it."""
        admitted, self.admitted = self.admitted, None
        self.settle(0, 0, 0)
        if admitted is not None:
            self._gateway.admission.withdraw(admitted)
