"""Which limits stand over a caller's requests to a deployment: caps to compare with, shelves to take from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferry.core.api_key import Caller
from inferry.core.errors import InvalidRequest
from inferry.core.leases import KIND_OF, Bucket, Measure, bucket_id
from inferry.core.limits import Limits
from inferry.policy.lease_shelf import Shelf

NANO = 10**9

_TOKENS = (Measure.TOKENS_PER_MINUTE, Measure.TOKENS_PER_DAY, Measure.TOKENS_PER_MONTH)
_COSTS = (Measure.COST_PER_DAY, Measure.COST_PER_MONTH)


@dataclass(slots=True)
class Estimate:
    """What a request will take at most, as far as one can tell before."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of all choices together."""
    cost_nano: int = 0
    max_tokens: int | None = None
    """As the client wrote it, for the cap; None: it did not."""
    choices: int = 1
    """Of all prompts together, for the cap."""
    max_tokens_param: str = "max_tokens"
    """The field that `max_tokens` was read from."""
    choices_param: str = "n"
    """The field that has most to do with `choices`."""
    capped_prompt_tokens: int = 0
    """By a fixed ratio, for the cap: what others send must not move it."""


@dataclass(frozen=True, slots=True)
class Cap:
    """The lowest of one kind, and whose it is."""

    value: int
    whose: str


class Rules:
    """All that stands over the requests of one caller to one deployment."""

    __slots__ = (
        "choices_cap", "completion_cap", "cost_places", "counts_cost", "counts_tokens", "has_caps", "is_limited",
        "limits", "measures", "ones", "permit_shelves", "prompt_cap", "request_shelves", "shelves", "token_places",
        "token_shelves", "weights",
    )  # fmt: skip

    def __init__(
        self, caller: Caller, deployment: str, deployment_limits: Limits, shelf_of: Callable[[Bucket], Shelf]
    ) -> None:
        self.limits = (caller.key_limits, caller.tenant_limits, deployment_limits)
        owners = [
            ("tenant", caller.tenant, caller.tenant_limits),
            ("deployment", deployment, deployment_limits),
        ]
        if caller.key is not None:
            owners.insert(0, ("key", caller.key.id, caller.key_limits))
        shelves: list[Shelf] = []
        self.measures: list[Measure] = []
        for scope, owner, limits in owners:
            for measure in Measure:
                value = getattr(limits, measure.value)
                if value is not None:
                    units = round(value * NANO) if measure in _COSTS else int(value)
                    bucket = Bucket(bucket_id(scope, owner, measure), KIND_OF[measure], units)
                    shelves.append(shelf_of(bucket))
                    self.measures.append(measure)
        self.shelves = tuple(shelves)
        self.weights = tuple(1 if each in _TOKENS else 2 if each in _COSTS else 0 for each in self.measures)
        """What a request takes there: 0 one, 1 its tokens, 2 its money."""
        self.ones = (1,) * len(shelves)
        self.is_limited = bool(shelves)
        self.token_places = tuple(place for place, weight in enumerate(self.weights) if weight == 1)
        self.cost_places = tuple(place for place, weight in enumerate(self.weights) if weight == 2)
        self.counts_tokens = bool(self.token_places)
        """Whether an estimate of tokens is of any use."""
        self.counts_cost = bool(self.cost_places)
        self.permit_shelves = tuple(shelf for shelf in shelves if shelf.is_permits)
        self.request_shelves = self._shelves_of(Measure.REQUESTS_PER_MINUTE)
        self.token_shelves = self._shelves_of(Measure.TOKENS_PER_MINUTE)
        self.prompt_cap = _lowest(owners, "prompt_tokens_max")
        self.completion_cap = _lowest(owners, "completion_tokens_max")
        """Also the answer's length where the client names none."""
        self.choices_cap = _lowest(owners, "choices_max")
        self.has_caps = any((self.prompt_cap, self.completion_cap, self.choices_cap))

    def _shelves_of(self, measure: Measure) -> tuple[Shelf, ...]:
        return tuple(
            shelf for shelf, each in zip(self.shelves, self.measures, strict=True) if each is measure
        )

    def stand_over(self, caller: Caller, deployment_limits: Limits) -> bool:
        """Whether these are still the limits of all three."""
        key, tenant, deployment = self.limits
        if key is caller.key_limits and tenant is caller.tenant_limits and deployment is deployment_limits:
            return True
        return self.limits == (caller.key_limits, caller.tenant_limits, deployment_limits)

    def amounts(self, estimate: Estimate) -> Sequence[int]:
        """What the request takes of each shelf."""
        if not self.counts_tokens and not self.counts_cost:
            return self.ones
        by_weight = (1, estimate.prompt_tokens + estimate.completion_tokens, estimate.cost_nano)
        return [by_weight[weight] for weight in self.weights]

    def check_caps(self, estimate: Estimate) -> InvalidRequest | None:
        """What is wrong with the request, if it asks for more than it may."""
        cap = self.completion_cap
        if cap is not None and estimate.max_tokens is not None and estimate.max_tokens > cap.value:
            name = estimate.max_tokens_param
            return InvalidRequest(
                f"'{name}' is {estimate.max_tokens}, but {cap.whose} allows answers of at most {cap.value} tokens "
                f"(completion_tokens_max). Ask for {cap.value} or fewer.",
                param=name,
            )
        cap = self.prompt_cap
        if cap is not None and estimate.capped_prompt_tokens > cap.value:
            return InvalidRequest(
                f"The prompt has about {estimate.capped_prompt_tokens} tokens, but {cap.whose} allows at most {cap.value} "
                "(prompt_tokens_max). Shorten it.",
                param="messages",
            )
        cap = self.choices_cap
        if cap is not None and estimate.choices > cap.value:
            name = estimate.choices_param
            asks = "'n' is" if name == "n" else f"With '{name}', the choices of all prompts are"
            return InvalidRequest(
                f"{asks} {estimate.choices}, but {cap.whose} allows at most {cap.value} choices (choices_max).",
                param=name,
            )
        return None


def whose_limit(scope: str, owner: str) -> str:
    """In words for the client: its own key is not named, it knows that."""
    return "this key" if scope == "key" else f"{scope} '{owner}'"


def _lowest(owners: Sequence[tuple[str, str, Limits]], name: str) -> Cap | None:
    caps = [
        Cap(value, whose_limit(scope, owner))
        for scope, owner, limits in owners
        if (value := getattr(limits, name)) is not None
    ]
    return min(caps, key=lambda cap: cap.value) if caps else None
