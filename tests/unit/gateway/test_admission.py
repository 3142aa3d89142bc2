"""Admission as the gateway uses it: answers, errors, headers, settling; with the bank in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from inferry.core.api_key import ApiKey, Caller
from inferry.core.errors import (
    BudgetSpent,
    InferryError,
    InvalidRequest,
    LimitsUnavailable,
    RateLimited,
    TokensLimited,
    TooManyInFlight,
)
from inferry.core.leases import Bucket, Kind, Return, Times, Wish, owner_of, period_of, period_start_s
from inferry.core.limits import Limits
from inferry.gateway.admission import UNLIMITED, Admission, Admitted, BankStore, OnGrants, Pending, Refused
from inferry.gateway.limit_bank import MemoryLimitBank
from inferry.gateway.limit_rules import Estimate
from inferry.policy.lease_bank import LeaseBank
from inferry.testing.manual_clock import ManualClock

NONE = Limits()
KEPT_S = Times().kept_s


def caller(key: Limits = NONE, tenant: Limits = NONE, key_id: str = "key_1") -> Caller:
    return Caller("acme", ApiKey(key_id, "ik-1", b"", "acme", "ci"), key, tenant)


class Stand:
    """An Admission over a bank in memory, and time."""

    def __init__(self, used_before: Callable[[Bucket, int], int] = lambda bucket, period: 0) -> None:
        self.clock = ManualClock(now_s=1000.0)
        self.bank = LeaseBank()
        self.admission = Admission(BankStore(self.bank, self.clock, used_before=used_before), self.clock)

    def ask(
        self, who: Caller, estimate: Estimate | None = None, deployment: Limits = NONE
    ) -> Admitted | Refused:
        def on_answer(answer: Admitted | Refused) -> None:
            raise AssertionError("a bank in this process answers at once")

        answer = self.admission.ask(who, "chat", deployment, estimate or Estimate(), on_answer)
        assert not isinstance(answer, Pending)
        return answer

    def refused(
        self, who: Caller, estimate: Estimate | None = None, deployment: Limits = NONE
    ) -> InferryError:
        answer = self.ask(who, estimate, deployment)
        assert isinstance(answer, Refused)
        return answer.error

    def admitted(self, who: Caller, estimate: Estimate | None = None, deployment: Limits = NONE) -> Admitted:
        answer = self.ask(who, estimate, deployment)
        assert isinstance(answer, Admitted)
        return answer

    def wait(self, seconds: float) -> None:
        """Time passes, with its ticks."""
        for _ in range(round(seconds / 0.05)):
            self.admission.tick(self.clock.advance(0.05))


@pytest.fixture
def stand() -> Stand:
    return Stand()


# --- answers ------------------------------------------------------------------------------------------


def test_without_limits_everybody_enters(stand: Stand) -> None:
    """No limit anywhere: the same answer each time, nothing to settle, no headers."""
    answer = stand.admitted(caller())
    assert answer is UNLIMITED
    for _ in range(2):
        stand.admission.settle(answer, 10, 10)
    assert stand.admission.header_lines(caller(), "chat", NONE) == b""
    assert len(stand.bank) == 0


@pytest.mark.parametrize(
    ("key", "tenant", "deployment", "whose"),
    [
        (Limits(requests_per_minute=2), NONE, NONE, "This key may have 2 requests per minute"),
        (NONE, Limits(requests_per_minute=2), NONE, "Tenant 'acme' may have 2 requests per minute"),
        (NONE, NONE, Limits(requests_per_minute=2), "Deployment 'chat' may have 2 requests per minute"),
    ],
)
def test_the_error_says_whose_limit_it_was(
    stand: Stand, key: Limits, tenant: Limits, deployment: Limits, whose: str
) -> None:
    """Key, tenant and deployment each have limits, and the message names whose is spent, and until when."""
    who = caller(key, tenant)
    for _ in range(2):
        stand.admitted(who, deployment=deployment)
    error = stand.refused(who, deployment=deployment)
    assert isinstance(error, RateLimited)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.message.startswith(whose)
    assert "(requests_per_minute)" in error.message
    assert error.retry_after_s == pytest.approx(KEPT_S, abs=0.5)


def test_retry_after_is_honest(stand: Stand) -> None:
    """A client that comes when it was told to is admitted; a little earlier it is not."""
    who = caller(Limits(requests_per_minute=3))
    for _ in range(3):
        stand.admitted(who)
        stand.wait(7)
    retry_after_s = stand.refused(who).retry_after_s
    assert retry_after_s is not None
    stand.wait(retry_after_s - 1)
    stand.refused(who)
    stand.wait(1.1)
    stand.admitted(who)


def test_the_same_tenant_limit_stands_over_all_its_keys(stand: Stand) -> None:
    """Two keys of one tenant share its limit."""
    tenant = Limits(requests_per_minute=3)
    answers = [stand.ask(caller(NONE, tenant, key_id=f"key_{n % 2}")) for n in range(4)]
    assert [type(answer) for answer in answers] == [Admitted, Admitted, Admitted, Refused]


def test_requests_in_flight(stand: Stand) -> None:
    """As many as allowed at the same time; the end of one lets the next in at once."""
    who = caller(Limits(requests_in_flight=2))
    first, _ = stand.admitted(who), stand.admitted(who)
    error = stand.refused(who)
    assert isinstance(error, TooManyInFlight)
    assert "2 requests at the same time" in error.message
    assert error.retry_after_s == 1.0
    stand.admission.settle(first, 0, 0)
    stand.admitted(who)


def test_permits_outlive_their_time_while_requests_run(stand: Stand) -> None:
    """A request that runs for minutes keeps its permit: it is confirmed by ticks."""
    who = caller(Limits(requests_in_flight=1))
    running = stand.admitted(who)
    stand.wait(Times().permit_ttl_s * 3)
    stand.refused(who)
    stand.admission.settle(running, 0, 0)
    stand.admitted(who)


# --- tokens and money ---------------------------------------------------------------------------------


def test_tokens_are_reserved_then_settled(stand: Stand) -> None:
    """The estimate is taken before; what was not used is there for the next one."""
    who = caller(Limits(tokens_per_minute=1000))
    first = stand.admitted(who, Estimate(300, 500))
    error = stand.refused(who, Estimate(300, 500))
    assert isinstance(error, TokensLimited)
    assert "1000 tokens per minute" in error.message
    assert "800 tokens" in error.message
    stand.admission.settle(first, 150, 0)
    stand.wait(0.2)
    stand.admitted(who, Estimate(300, 500))


def test_more_tokens_than_reserved_are_charged(stand: Stand) -> None:
    """An answer that outgrows its estimate counts in full, also above the limit."""
    who = caller(Limits(tokens_per_minute=1000))
    stand.admission.settle(stand.admitted(who, Estimate(100, 100)), 1900, 0)
    stand.wait(0.2)
    stand.refused(who, Estimate(1, 1))
    stand.wait(KEPT_S + 0.5)
    stand.admitted(who, Estimate(100, 100))


def test_an_estimate_above_the_whole_limit_is_refused_for_good(stand: Stand) -> None:
    """Waiting would not help, and so there is no Retry-After."""
    who = caller(Limits(tokens_per_minute=1000))
    error = stand.refused(who, Estimate(600, 500))
    assert isinstance(error, TokensLimited)
    assert error.retry_after_s is None
    assert "1100 tokens" in error.message
    assert "waiting would not help" in error.message


@pytest.mark.parametrize(
    ("limits", "words", "kind"),
    [
        (Limits(tokens_per_day=1000), "1000 tokens per UTC day", Kind.DAY),
        (Limits(tokens_per_month=1000), "1000 tokens per UTC month", Kind.MONTH),
        (Limits(cost_per_day=2.5), "2.5 per UTC day", Kind.DAY),
        (Limits(cost_per_month=2.5), "2.5 per UTC month", Kind.MONTH),
    ],
)
def test_budgets_end_with_the_calendar(limits: Limits, words: str, kind: Kind) -> None:
    """A spent budget says so as OpenAI does, and until when; at that time there is a new one."""
    stand = Stand()
    who = caller(limits)
    estimate = Estimate(500, 500, 2_500_000_000)
    stand.admission.settle(stand.admitted(who, estimate), 1000, 2_500_000_000)
    error = stand.refused(who, estimate)
    assert isinstance(error, BudgetSpent)
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert words in error.message
    wall_s = stand.clock.wall_s()
    ends_s = period_start_s(kind, period_of(kind, wall_s) + 1) - wall_s
    assert error.retry_after_s == pytest.approx(ends_s, abs=0.001)
    stand.clock.advance(ends_s + 2)
    stand.admitted(who, estimate)


def test_budgets_begin_with_what_the_ledger_has() -> None:
    """After a restart, what was spent before in this day or month counts."""
    asked = []

    def used_before(bucket: Bucket, period: int) -> int:
        asked.append((owner_of(bucket.id), period))
        return 900

    stand = Stand(used_before)
    who = caller(Limits(tokens_per_day=1000))
    stand.refused(who, Estimate(100, 100))
    stand.admitted(who, Estimate(50, 50))
    assert asked == [(("key", "key_1", "tokens_per_day"), period_of(Kind.DAY, stand.clock.wall_s()))]


def test_all_limits_or_none(stand: Stand) -> None:
    """A request that its tenant's limit refuses takes nothing from its key's."""
    tenant = Limits(tokens_per_minute=100)
    who = caller(Limits(requests_per_minute=5), tenant)
    stand.admitted(who, Estimate(100, 0))
    for _ in range(10):
        stand.refused(who, Estimate(50, 0))
    stand.wait(2)
    alone = caller(Limits(requests_per_minute=5))
    answers = [stand.ask(alone) for _ in range(5)]
    assert [type(answer) for answer in answers] == [Admitted] * 4 + [Refused]


def test_settling_twice_is_our_own_mistake(stand: Stand) -> None:
    """Twice would be credit."""
    admitted = stand.admitted(caller(Limits(requests_in_flight=2)))
    stand.admission.settle(admitted, 0, 0)
    with pytest.raises(AssertionError):
        stand.admission.settle(admitted, 0, 0)


# --- caps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "estimate", "param", "words"),
    [
        (
            Limits(completion_tokens_max=100),
            Estimate(max_tokens=101, max_tokens_param="max_completion_tokens"),
            "max_completion_tokens",
            "is 101, but this key allows answers of at most 100",
        ),
        (Limits(prompt_tokens_max=10), Estimate(capped_prompt_tokens=11), "messages", "about 11 tokens"),
        (Limits(choices_max=2), Estimate(choices=3), "n", "'n' is 3, but this key allows at most 2"),
    ],
)
def test_caps_are_400_and_say_which(
    stand: Stand, limits: Limits, estimate: Estimate, param: str, words: str
) -> None:
    """Too long, too many: the client must change the request, and is told what and to which value."""
    error = stand.refused(caller(limits), estimate)
    assert isinstance(error, InvalidRequest)
    assert (error.status, error.param) == (400, param)
    assert words in error.message


def test_the_lowest_cap_counts(stand: Stand) -> None:
    """Of key, tenant and deployment; the exchange can read it for clients that name no length."""
    who = caller(Limits(completion_tokens_max=100), Limits(completion_tokens_max=50))
    deployment = Limits(completion_tokens_max=70)
    assert "tenant 'acme'" in stand.refused(who, Estimate(max_tokens=60), deployment).message
    assert stand.ask(who, Estimate(max_tokens=50), deployment) is UNLIMITED
    cap = stand.admission.rules(who, "chat", deployment).completion_cap
    assert cap is not None
    assert cap.value == 50


# --- headers and reload -------------------------------------------------------------------------------


def test_headers_tell_of_the_tightest_limits(stand: Stand) -> None:
    """OpenAI's names; of several limits, the one with the least left."""
    who = caller(Limits(requests_per_minute=100, tokens_per_minute=5000), Limits(requests_per_minute=10))
    lines = stand.admission.header_lines(who, "chat", NONE)
    assert b"x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 10\r\n" in lines
    stand.admitted(who, Estimate(1000, 0))
    lines = stand.admission.header_lines(who, "chat", NONE)
    assert lines == (
        b"x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\nx-ratelimit-reset-requests: 1m2s\r\n"
        b"x-ratelimit-limit-tokens: 5000\r\nx-ratelimit-remaining-tokens: 4000\r\nx-ratelimit-reset-tokens: 1m2s\r\n"
    )
    stand.wait(KEPT_S + 1)
    assert b"remaining-requests: 10\r\nx-ratelimit-reset-requests: 0s" in stand.admission.header_lines(
        who, "chat", NONE
    )


def test_changed_limits_count_from_the_next_request(stand: Stand) -> None:
    """A lower limit holds at once, also for leases in hand; a higher one gives more."""
    for _ in range(5):
        stand.admitted(caller(Limits(requests_per_minute=1000)))
    assert stand.refused(caller(Limits(requests_per_minute=5))).status == 429
    stand.wait(0.5)
    stand.admitted(caller(Limits(requests_per_minute=6)))


def test_equal_limits_are_the_same_limits(stand: Stand) -> None:
    """A caller that is looked up anew for each request meets the same counts."""
    answers = [stand.ask(caller(Limits(requests_per_minute=2))) for _ in range(3)]
    assert [type(answer) for answer in answers] == [Admitted, Admitted, Refused]


def test_callers_are_forgotten(stand: Stand) -> None:
    """A thousand keys, once each: minutes later nothing of them is kept."""
    for number in range(1000):
        stand.ask(caller(Limits(requests_per_minute=2), key_id=f"key_{number}"))
    stand.wait(185)
    assert stand.admission.kept() == (0, 0)


# --- a bank that is elsewhere -------------------------------------------------------------------------


class SlowStore:
    """A link whose replies a test sends by hand."""

    def __init__(self, clock: ManualClock) -> None:
        self.bank = LeaseBank()
        self.clock = clock
        self.waiting: list[tuple[Sequence[Wish], Sequence[Return], OnGrants]] = []

    def exchange(self, wishes: Sequence[Wish], returns: Sequence[Return], on_grants: OnGrants) -> None:
        self.waiting.append((wishes, returns, on_grants))

    def reply(self) -> None:
        waiting, self.waiting = self.waiting, []
        for wishes, returns, on_grants in waiting:
            on_grants(self.bank.handle("g", wishes, returns, self.clock.now_s(), self.clock.wall_s()))


class Linked:
    """An Admission at the other end of a link."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_s=1000.0)
        self.store = SlowStore(self.clock)
        self.admission = Admission(self.store, self.clock)
        self.answers: list[Admitted | Refused] = []

    def ask(self, who: Caller, on_answer: Callable[[Admitted | Refused], None] | None = None) -> object:
        return self.admission.ask(who, "chat", NONE, Estimate(), on_answer or self.answers.append)


@pytest.fixture
def linked() -> Linked:
    return Linked()


def test_who_comes_while_the_bank_is_asked_waits_for_the_same_answer(linked: Linked) -> None:
    """One message for all that wait at a bucket; then they are answered in order."""
    who = caller(Limits(requests_per_minute=3))
    assert all(isinstance(linked.ask(who), Pending) for _ in range(5))
    assert len(linked.store.waiting) == 1
    for _ in range(3):
        linked.store.reply()
    assert [type(answer) for answer in linked.answers] == [Admitted] * 3 + [Refused] * 2


def test_a_cancelled_request_is_not_answered(linked: Linked) -> None:
    """The client went away before the bank answered; what came for it serves the next one."""
    who = caller(Limits(requests_per_minute=1))
    pending = linked.ask(who)
    assert isinstance(pending, Pending)
    pending.cancel()
    linked.store.reply()
    assert linked.answers == []
    assert isinstance(linked.ask(who), Admitted)


def test_an_answer_may_cancel_another(linked: Linked) -> None:
    """Two are decided by one message, and the first one's callback cancels the second: it holds nothing then."""
    who = caller(Limits(requests_in_flight=2))
    pendings: list[Pending] = []

    def cancel_other(answer: Admitted | Refused) -> None:
        linked.answers.append(answer)
        pendings[1].cancel()

    for on_answer in (cancel_other, linked.answers.append):
        pending = linked.ask(who, on_answer)
        assert isinstance(pending, Pending)
        pendings.append(pending)
    linked.store.reply()
    linked.store.reply()
    assert len(linked.answers) == 1
    assert isinstance(linked.ask(who), Admitted)


def test_no_answer_is_503_after_a_second(linked: Linked) -> None:
    """A control process that is gone holds nobody for long, and the client is told to come again."""
    linked.ask(caller(Limits(requests_per_minute=3)))
    for _ in range(22):
        linked.admission.tick(linked.clock.advance(0.05))
    (answer,) = linked.answers
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, LimitsUnavailable)
    assert (answer.error.status, answer.error.retry_after_s) == (503, 2.0)


def test_a_link_that_breaks_is_503_at_once(linked: Linked) -> None:
    """The store says None: nobody waits for the second to pass."""
    linked.ask(caller(Limits(requests_per_minute=3)))
    linked.store.waiting.pop()[2](None)
    (answer,) = linked.answers
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, LimitsUnavailable)


async def test_the_bank_of_one_host_serves_many() -> None:
    """Two gateway processes share the limit; one that is gone frees its permits at once."""

    async def used_before(bucket: Bucket, period: int) -> int:
        await asyncio.sleep(0)
        return 40

    bank = MemoryLimitBank(ManualClock(now_s=1000.0), used_before)
    day = Bucket("key:a:tokens_per_day", Kind.DAY, 100)
    permits = Bucket("key:a:requests_in_flight", Kind.PERMITS, 3)
    wishes = [Wish(day, 30, 30, 30, 30), Wish(permits, 3, 3, 3, 3)]
    first = await bank.serve("gateway-0", wishes, [])
    second = await bank.serve("gateway-1", wishes, [])
    bank.forget("gateway-0")
    third = await bank.serve("gateway-1", wishes, [])
    assert [[grant.units for grant in grants] for grants in (first, second, third)] == [
        [30, 3],
        [30, 0],
        [0, 3],
    ]


def test_the_only_permit_follows_its_client_from_process_to_process() -> None:
    """One request at a time, each at another gateway process: none is refused, since no process keeps the permit."""
    clock = ManualClock()
    bank = LeaseBank()
    processes = [Admission(BankStore(bank, clock, name), clock) for name in ("g0", "g1")]
    who = caller(Limits(requests_in_flight=1))
    for number in range(40):
        process = processes[number % 3 % 2]
        answer = process.ask(who, "chat", NONE, Estimate(), lambda answer: None)
        assert isinstance(answer, Admitted), f"request {number}"
        clock.advance(0.003)
        process.settle(answer, 0, 0)
