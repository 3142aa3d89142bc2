"""May this request enter? Limits of key, tenant and deployment, answered from leases without a round trip.

The common case is synchronous and allocates next to nothing. Where leases are short, `ask` gives a Pending, and
`on_answer` is called later from the event loop. No tasks, no awaits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from inferry.core.api_key import Caller
from inferry.core.clock import Clock
from inferry.core.errors import InferryError
from inferry.core.leases import Bucket, Grant, Measure, Return, Times, Wish
from inferry.core.limits import Limits
from inferry.gateway.limit_errors import spent_error, too_large_error, unavailable_error
from inferry.gateway.limit_rules import Estimate, Rules
from inferry.policy.lease_bank import LeaseBank
from inferry.policy.lease_holder import LeaseHolder, Message
from inferry.policy.lease_shelf import Claim, ClaimState, Shelf

TICK_S = 0.05
"""How often `tick` shall be called."""
RULES_KEPT_S = 60.0
"""Rules that nobody asked by for so long (at most twice that) are dropped."""

OnGrants = Callable[[Sequence[Grant] | None], None]


class LeaseStore(Protocol):
    """Whoever has the bank: in this process, or at the other end of a link."""

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        """Hand over `returns` and ask for `wishes`.

        `on_grants` gets one grant per wish, in order, now or later from the event loop; None if the bank could
        not be asked. If it is never called, the wishes count as lost after a second. Messages must arrive in
        the order in which they were sent. Must not raise.
        """


class Admitted(Claim):
    """The right to run. Hand it to `Admission.settle` once."""

    __slots__ = ("is_cancelled", "is_settled", "on_answer", "rules")

    def __init__(self, rules: Rules | None, amounts: Sequence[int]) -> None:
        super().__init__(() if rules is None else rules.shelves, amounts)
        self.rules = rules
        self.is_settled = False
        self.is_cancelled = False
        self.on_answer: OnAnswer | None = None
        """Who hears the answer, while the bank is being asked. Not kept longer: all that the request made hangs on
        it, and refers back to this."""


UNLIMITED = Admitted(None, ())
"""No limit stands over the request. May be settled, to no effect, as often as one likes."""


class Refused:
    """The answer for the client."""

    __slots__ = ("error",)

    def __init__(self, error: InferryError) -> None:
        self.error = error


OnAnswer = Callable[[Admitted | Refused], None]


class Pending:
    """The bank is being asked. `on_answer` is called once, unless cancelled."""

    __slots__ = ("_admission", "_claim")

    def __init__(self, admission: Admission, claim: Admitted) -> None:
        self._admission = admission
        self._claim = claim

    def cancel(self) -> None:
        """The client went away: `on_answer` will not be called."""
        self._admission.on_cancelled(self._claim)


class Admission:
    """All limits, as one gateway process sees them. One owner: the event loop's thread."""

    def __init__(self, store: LeaseStore, clock: Clock, times: Times | None = None) -> None:
        self._store = store
        self._now_s = clock.now_s
        self._holder = LeaseHolder(times)
        self._rules: dict[tuple[str, str | None, str], Rules] = {}
        self._older_rules: dict[tuple[str, str | None, str], Rules] = {}
        self._rules_since_s = clock.now_s()

    def rules(self, caller: Caller, deployment: str, deployment_limits: Limits) -> Rules:
        """What stands over the caller's requests: whether an estimate is needed, and the caps."""
        key = caller.key
        place = (caller.tenant, None if key is None else key.id, deployment)
        rules = self._rules.get(place)
        if rules is not None and rules.stand_over(caller, deployment_limits):
            return rules
        rules = self._older_rules.get(place)
        if rules is None or not rules.stand_over(caller, deployment_limits):
            rules = Rules(caller, deployment, deployment_limits, self._holder.shelf)
        self._rules[place] = rules
        return rules

    def kept(self) -> tuple[int, int]:
        """How many rules and shelves are in memory."""
        return len(self._rules) + len(self._older_rules), self._holder.shelves_kept()

    # --- a request ------------------------------------------------------------------------------------

    def ask(
        self,
        caller: Caller,
        deployment: str,
        deployment_limits: Limits,
        estimate: Estimate,
        on_answer: OnAnswer,
    ) -> Admitted | Refused | Pending:
        """Whether the request may enter, taking one request, its tokens and its money from all limits at once.

        `on_answer` is called only after a Pending was returned.
        """
        return self.ask_under(self.rules(caller, deployment, deployment_limits), estimate, on_answer)

    def ask_under(
        self, rules: Rules, estimate: Estimate, on_answer: OnAnswer
    ) -> Admitted | Refused | Pending:
        """`ask`, for a caller whose rules are at hand."""
        if rules.has_caps:
            wrong = rules.check_caps(estimate)
            if wrong is not None:
                return Refused(wrong)
        if not rules.is_limited:
            return UNLIMITED
        now_s = self._now_s()
        claim = Admitted(rules, rules.amounts(estimate))
        if self._holder.take_at_hand(claim, now_s):
            return claim
        for shelf, amount in zip(rules.shelves, claim.amounts, strict=True):
            if amount > shelf.bucket.limit:
                return Refused(too_large_error(shelf.bucket, amount))
        self._holder.take(claim, now_s)
        if claim.state is ClaimState.TAKEN:
            return claim
        self._send_wishes(now_s)
        # A bank in this process has answered by now.
        if claim.state is not ClaimState.WAITING:
            return self._answer(claim, now_s)
        claim.on_answer = on_answer
        return Pending(self, claim)

    def settle(self, admitted: Admitted, tokens: int, cost_nano: int) -> None:
        """The request is over and has taken so much: give back what was reserved beyond, charge what was not."""
        rules = admitted.rules
        if rules is None:
            return
        assert not admitted.is_settled, "an admitted request is settled once"
        admitted.is_settled = True
        for shelf in rules.permit_shelves:
            message = self._holder.put_back(shelf, self._now_s())
            if message is not None:
                self._send(message)
        for place in rules.token_places:
            unused = admitted.amounts[place] - tokens
            if unused:
                self._holder.settle(admitted, admitted.shelves[place], unused)
        for place in rules.cost_places:
            unused = admitted.amounts[place] - cost_nano
            if unused:
                self._holder.settle(admitted, admitted.shelves[place], unused)

    def withdraw(self, admitted: Admitted) -> None:
        """The request goes elsewhere and enters again there: here, it shall not count at all."""
        rules = admitted.rules
        if rules is None:
            return
        self.settle(admitted, 0, 0)
        for place, measure in enumerate(rules.measures):
            if measure is Measure.REQUESTS_PER_MINUTE:
                self._holder.settle(admitted, admitted.shelves[place], 1)

    def on_cancelled(self, claim: Admitted) -> None:
        """Nobody waits for the claim any more."""
        claim.is_cancelled = True
        claim.on_answer = None
        self._holder.drop(claim)

    # --- the bank -------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Every TICK_S: renew and return leases, give up on answers that don't come."""
        message, lost = self._holder.tick(now_s)
        if message is not None:
            self._send(message)
        self._tell(lost, now_s)
        if now_s - self._rules_since_s >= RULES_KEPT_S:
            self._rules_since_s = now_s
            self._older_rules, self._rules = self._rules, {}

    def _send_wishes(self, now_s: float) -> None:
        message = self._holder.message(now_s)
        if message is not None:
            self._send(message)

    def _send(self, message: Message) -> None:
        self._store.exchange(message.wishes, message.returns, lambda grants: self._on_grants(message, grants))

    def _on_grants(self, message: Message, grants: Sequence[Grant] | None) -> None:
        now_s = self._now_s()
        if grants is None:
            decided = self._holder.on_lost(message)
        else:
            decided = self._holder.on_grants(message, grants, now_s)
            self._send_wishes(now_s)
        self._tell(decided, now_s)

    def _tell(self, decided: Sequence[Claim], now_s: float) -> None:
        for claim in decided:
            assert isinstance(claim, Admitted)
            on_answer, claim.on_answer = claim.on_answer, None
            if on_answer is not None:
                on_answer(self._answer(claim, now_s))
            elif claim.is_cancelled and claim.state is ClaimState.TAKEN:
                # By another's `on_answer` just now.
                self.settle(claim, 0, 0)
            # else a bank in this process has decided it, and it is still in `ask`.

    def _answer(self, claim: Admitted, now_s: float) -> Admitted | Refused:
        if claim.state is ClaimState.TAKEN:
            return claim
        shelf = claim.refused_by
        if claim.state is ClaimState.UNAVAILABLE:
            return Refused(unavailable_error(shelf.bucket))
        amount = claim.amounts[claim.shelves.index(shelf)]
        return Refused(spent_error(shelf.bucket, amount, shelf.retry_at_s - now_s))

    # --- headers --------------------------------------------------------------------------------------

    def header_lines(self, caller: Caller, deployment: str, deployment_limits: Limits) -> bytes:
        """`x-ratelimit-*` for any answer to this caller, of its tightest limits; empty where there are none."""
        return self.header_lines_of(self.rules(caller, deployment, deployment_limits))

    def header_lines_of(self, rules: Rules) -> bytes:
        """`header_lines`, for a caller whose rules are at hand."""
        if not rules.is_limited:
            return b""
        now_s = self._now_s()
        return _lines(_REQUEST_LINES, rules.request_shelves, now_s) + _lines(
            _TOKEN_LINES, rules.token_shelves, now_s
        )


# Names and formats: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers".
_REQUEST_LINES, _TOKEN_LINES = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
    % (what, what, what)
    for what in (b"requests", b"tokens")
)


def _lines(layout: bytes, shelves: Sequence[Shelf], now_s: float) -> bytes:
    if not shelves:
        return b""
    shelf = shelves[0] if len(shelves) == 1 else min(shelves, key=lambda each: each.remaining(now_s))
    wait_s = math.ceil(shelf.reset_at_s - now_s)
    return layout % (shelf.bucket.limit, shelf.remaining(now_s), _duration(wait_s) if wait_s > 0 else b"0s")


@lru_cache(maxsize=128)
def _duration(seconds: int) -> bytes:
    """As OpenAI writes it: `1s`, `6m0s`."""
    return b"%ds" % seconds if seconds < 60 else b"%dm%ds" % divmod(seconds, 60)


class BankStore:
    """A bank in this process, for one gateway process alone; answers at once."""

    def __init__(
        self,
        bank: LeaseBank,
        clock: Clock,
        holder: str = "gateway",
        used_before: Callable[[Bucket, int], int] = lambda bucket, period: 0,
    ) -> None:
        """`used_before(bucket, period)`: units that the ledger has of a calendar period."""
        self._bank = bank
        self._clock = clock
        self._holder = holder
        self._used_before = used_before

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        now_s, wall_s = self._clock.now_s(), self._clock.wall_s()
        for bucket, period in list(self._bank.unknown(wishes, wall_s)):
            self._bank.begin_period(bucket, period, self._used_before(bucket, period), now_s)
        on_grants(self._bank.handle(self._holder, wishes, returns, now_s, wall_s))
