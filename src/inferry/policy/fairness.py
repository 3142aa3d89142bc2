"""Whose request is next? Fair shares of tokens between tenants, and priorities above that.

Virtual Token Counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024), with predicted
lengths. Each tenant has a counter of the service that it got: PROMPT_WEIGHT per prompt token, COMPLETION_WEIGHT
per generated one, divided by the tenant's weight. The waiting tenant with the lowest counter is next. At its
turn a request is charged its prompt and the completion that its tenant's last ones lead to expect; what it
really took is settled at its end, and on the way as far as it outgrows the expectation.

Who comes after a pause gets no credit for it: its counter is lifted to the level, the highest counter that
anybody had when it was next (so it is never above those who have waited since, except for refunds).

Each priority has counters of its own. The bound, for two tenants of one priority that both wait during an
interval: their weighted service differs by at most `service_gap_max`. docs/fairness.md has the proof.
"""

from __future__ import annotations

from collections import OrderedDict

from inferry.core.limits import Priority
from inferry.policy.keyed_heap import KeyedHeap

PROMPT_WEIGHT = 1.0
COMPLETION_WEIGHT = 2.0
"""Of the paper's section 5.1 (and of usual prices): a generated token costs about twice a prompt token."""

COMPLETION_TOKENS_FIRST = 128.0
"""Expected of a deployment that has not answered anything yet."""
LEARN = 0.1
"""Share of the newest answer in the moving average of lengths: about the last 20 count."""

PASSED_MAX = 8
"""So many turns may go past a priority that waits; then it is its turn. With three priorities, each that waits
gets at least one turn of ten."""

IDLE_MAX = 10_000
"""Tenants with nothing here that are still remembered because they are ahead of the level."""

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


def service_gap_max(
    prompt_tokens_max: float, completion_tokens_max: float, running_max: int, weight_min: float = 1.0
) -> float:
    """2 * (w_p * L_in + 2 * w_q * M) / weight, with M = running_max * completion_tokens_max.

    Weighted tokens. 8 slots, prompts to 1000 and answers to 500 tokens: 2 * (1000 + 2 * 2 * 4000) = 34,000.
    """
    completion_tokens_max = max(completion_tokens_max, COMPLETION_TOKENS_FIRST)
    running_tokens_max = running_max * completion_tokens_max
    return 2 * (PROMPT_WEIGHT * prompt_tokens_max + 2 * COMPLETION_WEIGHT * running_tokens_max) / weight_min


class Share:
    """One request as fairness sees it. Set once by the caller, except for the fields below the line."""

    __slots__ = (
        "account",
        "charged_completion",
        "completion_tokens_max",
        "cost",
        "priority",
        "prompt_tokens",
        "tenant",
        "weight",
    )

    def __init__(
        self,
        tenant: str,
        prompt_tokens: int,
        completion_tokens_max: int | None = None,
        priority: Priority = "normal",
        weight: float = 1.0,
    ) -> None:
        self.tenant = tenant
        self.prompt_tokens = prompt_tokens
        """Estimated; settled with the engine's count."""
        self.completion_tokens_max = completion_tokens_max
        self.priority: Priority = priority
        self.weight = weight
        # --- kept by FairQueue
        self.account: _Account | None = None
        self.charged_completion = 0.0
        self.cost = 0.0
        """Weighted tokens that it waits with, or was charged so far."""


class _Account:
    """One tenant at one priority."""

    __slots__ = ("backlog", "completion_tokens", "counter", "line", "name", "running", "waiting", "weight")

    def __init__(self, line: _Line, name: str, weight: float, counter: float) -> None:
        self.line = line
        self.name = name
        self.weight = weight
        self.counter = counter
        self.running = 0
        self.backlog = 0.0
        """Weighted tokens of all that waits."""
        self.completion_tokens = -1.0
        """Moving average of answers; below 0: none yet."""
        self.waiting: OrderedDict[Share, None] = OrderedDict()


class _Line:
    """The tenants of one priority: counters, and who waits in which order."""

    __slots__ = ("accounts", "last", "level", "next", "passed", "waiting", "weights")

    def __init__(self) -> None:
        self.accounts: dict[str, _Account] = {}
        self.level = 0.0
        self.waiting = 0
        self.weights = 0.0
        """Of the tenants that wait, summed."""
        self.passed = 0
        """Turns of others since its last one while somebody waited here."""
        self.next: KeyedHeap[_Account] = KeyedHeap()
        """Tenants that wait, by counter."""
        self.last: KeyedHeap[_Account] = KeyedHeap()
        """The same, by when their newest request would have its turn, latest first."""


class FairQueue:
    """All requests of one deployment that wait, and the counters of those that run.

    A share goes through `push`, `pop` (or `remove`), `settle`; or, where nobody waits, `start`, `settle`.
    """

    def __init__(self) -> None:
        self._lines: dict[Priority, _Line] = {priority: _Line() for priority in PRIORITIES}
        self._completion_tokens = COMPLETION_TOKENS_FIRST
        self._cost = 0.0
        """Moving average of what a request costs."""
        self.waiting = 0

    # --- turns ----------------------------------------------------------------------------------------

    def start(self, share: Share) -> None:
        """Its turn at once: nobody waits."""
        account = self._account(share)
        self._price(share, account)
        if account.counter < account.line.level:
            account.counter = account.line.level
        self._charge(share, account)

    def push(self, share: Share) -> None:
        """Let it wait, behind the others of its tenant."""
        account = self._account(share)
        line = account.line
        self._price(share, account)
        if not account.waiting:
            if account.counter < line.level:
                account.counter = line.level
            line.weights += account.weight
        account.waiting[share] = None
        account.backlog += share.cost
        line.waiting += 1
        self.waiting += 1
        self._order(account)

    def pop(self) -> Share | None:
        """The next one, taken out and charged; None if nobody waits."""
        if not self.waiting:
            return None
        line = self._next_line()
        account = line.next.least()
        assert account is not None
        share, _ = account.waiting.popitem(last=False)
        self._took_out(share, account)
        self._charge(share, account)
        if account.waiting:
            self._order(account)
        return share

    def remove(self, share: Share) -> None:
        """It waits no more, and nothing is charged."""
        account = share.account
        assert account is not None
        del account.waiting[share]
        self._took_out(share, account)
        share.account = None
        if account.waiting:
            self._order(account)

    def outranked(self, share: Share) -> Share | None:
        """The waiting request that must go if `share` is to wait in a full queue; None: `share` itself.

        That is the newest one of the tenant whose newest would have its turn last, at the lowest priority that
        somebody waits at: if that priority is lower than `share`'s, or the same and the turn is later.
        """
        for priority in reversed(PRIORITIES):
            line = self._lines[priority]
            last = line.last.least()
            if last is not None:
                own = priority == share.priority
                if own and self._turn_at(share) >= _last_turn_at(last):
                    return None
                return next(reversed(last.waiting))
            if priority == share.priority:
                return None
        return None

    # --- what it took ---------------------------------------------------------------------------------

    def grow(self, share: Share, completion_tokens: int) -> None:
        """It runs, and has generated so many tokens so far: charge what is beyond the expectation."""
        beyond = completion_tokens - share.charged_completion
        if beyond > 0 and (account := share.account) is not None:
            share.charged_completion = completion_tokens
            share.cost += COMPLETION_WEIGHT * beyond
            account.counter += COMPLETION_WEIGHT * beyond / account.weight
            if account.waiting:
                self._order(account)

    def settle(self, share: Share, prompt_tokens: int, completion_tokens: int) -> None:
        """It is over, and took so many tokens: the difference to its charge goes to its tenant's counter."""
        account = share.account
        assert account is not None
        share.account = None
        account.running -= 1
        cost = PROMPT_WEIGHT * prompt_tokens + COMPLETION_WEIGHT * completion_tokens
        account.counter += (cost - share.cost) / account.weight
        mean = account.completion_tokens
        account.completion_tokens = (
            completion_tokens if mean < 0 else mean + LEARN * (completion_tokens - mean)
        )
        self._completion_tokens += LEARN * (completion_tokens - self._completion_tokens)
        self._cost = cost if self._cost == 0 else self._cost + LEARN * (cost - self._cost)
        if account.waiting:
            self._order(account)

    # --- forecasts ------------------------------------------------------------------------------------

    def ahead(self, share: Share) -> float:
        """About how many waiting requests would have their turn before a newcomer, if nobody else came.

        At its own priority: while its tenant's counter has `d` weighted tokens to go to its turn, all that wait
        get `d` per weight, and each of them one request more that is begun before. Of higher priorities all, as
        far as PASSED_MAX lets them.
        """
        line = self._lines[share.priority]
        own = 0.0
        if line.waiting:
            account = line.accounts.get(share.tenant)
            weights = line.weights + (0 if account is not None and account.waiting else share.weight)
            distance = self._turn_at(share) - line.level
            own = float(line.waiting)
            if self._cost > 0:
                own = min(own, max(distance, 0.0) * weights / self._cost + len(line.next))
        above = 0
        for priority in PRIORITIES:
            if priority == share.priority:
                break
            above += self._lines[priority].waiting
        return own + min(above, (own + 1) * (PASSED_MAX + 1))

    def waiting_of(self, priority: Priority) -> int:
        return self._lines[priority].waiting

    def tenants(self) -> int:
        """How many are remembered, counted per priority."""
        return sum(len(line.accounts) for line in self._lines.values())

    def forget_idle(self) -> None:
        """Drop tenants that have nothing here and for whom that changes nothing. Call it now and then.

        A tenant ahead of the level is remembered until the level has come up: else a pause of a moment would
        pay its debt. At most IDLE_MAX of these; and where nobody waits or runs at all, there are no debts.
        """
        for line in self._lines.values():
            idle = [each for each in line.accounts.values() if not each.running and not each.waiting]
            if len(idle) < len(line.accounts):
                ahead = sorted(
                    (each for each in idle if each.counter > line.level), key=lambda each: each.counter
                )
                kept = set(ahead[-IDLE_MAX:])
                idle = [each for each in idle if each not in kept]
            for each in idle:
                del line.accounts[each.name]
            if not line.accounts:
                line.level = 0.0

    # --- inside ---------------------------------------------------------------------------------------

    def _account(self, share: Share) -> _Account:
        line = self._lines[share.priority]
        account = line.accounts.get(share.tenant)
        if account is None:
            account = _Account(line, share.tenant, share.weight, line.level)
            line.accounts[share.tenant] = account
        elif account.weight != share.weight:  # the file has changed
            if account.waiting:
                line.weights += share.weight - account.weight
            account.weight = share.weight
        share.account = account
        return account

    def _price(self, share: Share, account: _Account) -> None:
        expected = account.completion_tokens
        if expected < 0:
            expected = self._completion_tokens
        longest = share.completion_tokens_max
        if longest is not None and longest < expected:
            expected = longest
        share.charged_completion = expected
        share.cost = PROMPT_WEIGHT * share.prompt_tokens + COMPLETION_WEIGHT * expected

    def _charge(self, share: Share, account: _Account) -> None:
        line = account.line
        if account.counter > line.level:
            line.level = account.counter
        account.counter += share.cost / account.weight
        account.running += 1

    def _took_out(self, share: Share, account: _Account) -> None:
        line = account.line
        account.backlog -= share.cost
        line.waiting -= 1
        self.waiting -= 1
        if not line.waiting:
            line.passed = 0
        if not account.waiting:
            account.backlog = 0.0  # no rounding is left behind
            line.weights = line.weights - account.weight if line.waiting else 0.0
            line.next.discard(account)
            line.last.discard(account)

    def _order(self, account: _Account) -> None:
        account.line.next.put(account, account.counter)
        account.line.last.put(account, -_last_turn_at(account))

    def _next_line(self) -> _Line:
        waiting = [line for line in self._lines.values() if line.waiting]
        chosen = next((line for line in waiting[1:] if line.passed >= PASSED_MAX), waiting[0])
        for line in waiting:
            line.passed += 1
        chosen.passed = 0
        return chosen

    def _turn_at(self, share: Share) -> float:
        """The counter that its tenant will have when a newcomer is next."""
        line = self._lines[share.priority]
        account = line.accounts.get(share.tenant)
        if account is None:
            return line.level
        return max(account.counter, line.level if not account.waiting else 0.0) + (
            account.backlog / account.weight
        )


def _last_turn_at(account: _Account) -> float:
    newest = next(reversed(account.waiting))
    return account.counter + (account.backlog - newest.cost) / account.weight
