"""What a routing policy learns of an attempt: once, in order, and of that attempt alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from inferry.core.replica import ReplicaState
from inferry.gateway.account import Account
from inferry.gateway.reservation import Reservation
from inferry.gateway.usage import Usage
from inferry.policy.routing import NO_FACTS, Balancer, RouteFacts, Seen, Slot


class Listening(Balancer):
    """A balancer that writes down what it is told."""

    def __init__(self) -> None:
        super().__init__("round_robin")
        self.heard: list[Any] = []
        self.put("chat-0", ReplicaState.READY)

    def first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        self.heard.append((facts, ttft_s, now_s))

    def release(
        self, slot: Slot, facts: RouteFacts = NO_FACTS, seen: Seen | None = None, now_s: float = 0.0
    ) -> None:
        self.heard.append((facts, seen, now_s))


def account(whole: bool, tokens: int | None = None) -> Account:
    """As far as a reservation looks at one."""
    answer = SimpleNamespace(usage=lambda complete, estimate: (Usage(200, tokens, 150), None))
    return cast(
        Account, SimpleNamespace(answer=answer, whole=whole, entry=SimpleNamespace(prompt_tokens=190))
    )


def reservation(balancer: Balancer, facts: RouteFacts, tokens_before: int = 0) -> Reservation:
    slot = balancer.choose()
    assert isinstance(slot, Slot)
    return Reservation(slot, balancer, facts, 10.0, tokens_before)


def test_a_policy_hears_of_first_byte_and_end() -> None:
    """Times count from the choice; the engine's counts come with a whole answer, to who gave facts."""
    balancer, facts = Listening(), RouteFacts(prompt_tokens=190)
    held = reservation(balancer, facts)
    before = held.answered
    held.on_first_byte(10.5)
    assert (before, held.answered) == (False, True)
    held.end(account(True, tokens=30), 13.0, failed=False)
    assert balancer.heard == [
        (facts, 0.5, 10.5),
        (facts, Seen(True, False, 0.5, 3.0, 200, 150, 30), 13.0),
    ]


def test_without_facts_usage_is_not_looked_for() -> None:
    """Policies that want to know nothing pay for nothing."""
    balancer = Listening()
    reservation(balancer, NO_FACTS).end(account(True, tokens=30), 13.0, failed=False)
    assert balancer.heard == [(NO_FACTS, Seen(False, False, None, 3.0), 13.0)]


def test_an_answer_that_broke_off_has_no_duration() -> None:
    """How long a failure took says nothing of how long answers take."""
    balancer, facts = Listening(), RouteFacts(prompt_tokens=1)
    reservation(balancer, facts).end(account(False, tokens=30), 13.0, failed=True)
    assert balancer.heard == [(facts, Seen(False, True, None, None, 200, 150, 30), 13.0)]


def test_a_replica_that_goes_on_with_an_answer_is_credited_with_its_own_part() -> None:
    """The tokens of the one before it are not its."""
    balancer, facts = Listening(), RouteFacts(prompt_tokens=1)
    held = reservation(balancer, facts, tokens_before=12)
    held.on_first_byte(11.0)
    held.end(account(True, tokens=30), 13.0, failed=False)
    assert balancer.heard[-1][1].completion_tokens == 18
