"""A request's place at one replica, from the choice to the end of the attempt; what the policy learns from it."""

from __future__ import annotations

from collections.abc import Collection

from inferry.gateway.account import Account
from inferry.gateway.route_facts import route_facts
from inferry.gateway.served import ServedDeployment
from inferry.policy.routing import NO_FACTS, Balancer, NoReplica, RouteFacts, Seen, Slot


class Reservation:
    """Give it back exactly once, with `end`."""

    __slots__ = ("_balancer", "_chosen_s", "_facts", "_tokens_before", "_ttft_s", "slot")

    def __init__(
        self, slot: Slot, balancer: Balancer, facts: RouteFacts, now_s: float, tokens_before: int
    ) -> None:
        """`tokens_before`: of the answer, from replicas that had it before."""
        self.slot = slot
        self._balancer = balancer
        self._facts = facts
        self._chosen_s = now_s
        self._tokens_before = tokens_before
        self._ttft_s: float | None = None

    @property
    def answered(self) -> bool:
        """Something of an answer has come."""
        return self._ttft_s is not None

    def on_first_byte(self, now_s: float) -> None:
        """Of the answer's body. Once."""
        self._ttft_s = now_s - self._chosen_s
        self._balancer.first_byte(self.slot, self._facts, self._ttft_s, now_s)

    def end(self, account: Account, now_s: float, *, failed: bool) -> None:
        """The attempt is over. `failed`: by the replica's fault."""
        prompt_tokens = cached_tokens = completion_tokens = None
        answer = account.answer
        if self._facts is not NO_FACTS and answer is not None and account.entry is not None:
            usage, _ = answer.usage(account.whole, account.entry.prompt_tokens)
            prompt_tokens, cached_tokens = usage.prompt_tokens, usage.cached_tokens
            if usage.completion_tokens is not None:
                completion_tokens = max(usage.completion_tokens - self._tokens_before, 0)
        seen = Seen(
            self._ttft_s is not None,
            failed,
            self._ttft_s,
            now_s - self._chosen_s if account.whole else None,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
        )
        self._balancer.release(self.slot, self._facts, seen, now_s)


def reserve(
    account: Account, exclude: Collection[str], now_s: float, elsewhere: ServedDeployment | None = None
) -> Reservation | NoReplica:
    """A place at the replica that the deployment's policy chooses, or why there is none. `elsewhere`: at one of another
    deployment, that goes on with the answer."""
    deployment = elsewhere or account.deployment
    assert deployment is not None
    facts = route_facts(account) if elsewhere is None else NO_FACTS
    choice = deployment.balancer.choose(exclude, facts, now_s)
    if isinstance(choice, NoReplica):
        return choice
    if account.arrival.explain:
        account.why = deployment.balancer.explain(choice)
    tokens_before = 0 if account.answer is None else account.answer.tokens_so_far
    return Reservation(choice, deployment.balancer, facts, now_s, tokens_before)
