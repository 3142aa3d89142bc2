"""What is known of a request while it runs, and what it came to: its one outcome."""

from __future__ import annotations

from inferry.core.api_key import Caller
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.core.request import InferenceRequest, Route
from inferry.gateway.answer import Answer
from inferry.gateway.course import Course
from inferry.gateway.edge import Arrival
from inferry.gateway.entry import Entry
from inferry.gateway.served import ServedDeployment
from inferry.gateway.usage import Usage
from inferry.ledger.inflight_book import Begun
from inferry.policy.routing import Slot

_NOTHING = Usage()


class Account:
    """One request, as far as it has got. Kept by its exchange; times are the monotonic clock's."""

    __slots__ = (
        "answer", "arrival", "attempts", "book_slot", "caller", "course", "deployment", "entered_s", "entry", "first_byte_s",
        "received_s", "received_wall_s", "relaying", "replica_id", "request", "resumes", "route", "sent_s", "slot", "status", "whole", "why",
    )  # fmt: skip

    def __init__(self, route: Route, arrival: Arrival) -> None:
        self.route = route
        self.arrival = arrival
        self.course: Course | None = None
        """Where it may go, if several deployments stand behind the name that it asks for."""
        self.received_s = 0.0
        """When the whole request was here."""
        self.received_wall_s = 0.0
        self.caller: Caller | None = None
        self.request: InferenceRequest | None = None
        self.deployment: ServedDeployment | None = None
        self.entry: Entry | None = None
        self.entered_s: float | None = None
        """When nothing stood in its way any more."""
        self.slot: Slot | None = None
        """Held at the replica that serves it now."""
        self.why: str | None = None
        """That replica was chosen, in words; where the client asked for them."""
        self.replica_id: str | None = None
        self.attempts = 0
        self.resumes = 0
        """So often, another replica went on with the stream."""
        self.book_slot: int | None = None
        """In the book of requests under way, from the first attempt on."""
        self.sent_s = 0.0
        self.answer: Answer | None = None
        self.status = 0
        self.relaying = False
        self.whole = False
        """The engine has given its whole answer, whatever becomes of it."""
        self.first_byte_s: float | None = None


def ending_of(status: int) -> tuple[Ending, int, str | None]:
    """Ending, status and error code of an answer that an engine gave whole."""
    if status < 400:
        return Ending.COMPLETED, status, None
    if status < 500:
        return Ending.REJECTED, status, "engine_rejected"
    return Ending.FAILED, status, "engine_error"


def outcome_of(
    account: Account, ending: Ending, status: int, error_code: str | None, now_s: float
) -> Outcome:
    """Tokens are billed where an answer had begun: the engine's own count, or as many as were relayed."""
    request, deployment, caller, answer = (
        account.request, account.deployment, account.caller, account.answer,
    )  # fmt: skip
    usage, usage_from, reason, cost_nano = _NOTHING, UsageFrom.NONE, None, 0
    if answer is not None and account.relaying and account.status < 400:
        assert deployment is not None
        assert account.entry is not None
        usage, usage_from = answer.usage(account.whole, account.entry.prompt_tokens)
        reason = answer.finish_reason()
        cost_nano = deployment.rates.cost_nano(
            usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
        )
    is_stream = answer is not None and answer.is_stream
    received_s = account.received_s
    first_byte_s = account.first_byte_s if is_stream else None
    return Outcome(
        id=account.arrival.id,
        request_id=account.arrival.request_id,
        route=account.route.path,
        ending=ending,
        status=status,
        received_wall_s=account.received_wall_s,
        duration_s=now_s - received_s,
        deployment=None if deployment is None else deployment.name,
        model=None if request is None else request.model,
        engine=None if deployment is None else deployment.engine,
        replica_id=account.replica_id,
        key_id=None if caller is None else caller.key_id,
        tenant=None if caller is None else caller.tenant,
        stream=is_stream,
        queue_s=0.0 if account.entered_s is None else account.entered_s - received_s,
        ttft_s=None if first_byte_s is None else first_byte_s - received_s,
        attempts=account.attempts,
        resumes=account.resumes,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_from=usage_from,
        cost_nano=cost_nano,
        finish_reason=reason,
        filtered_by=None if account.entry is None else account.entry.filtered_by,
        error_code=error_code,
    )


def begun_of(account: Account, replica_id: str, attempts: int) -> Begun:
    """What must be known of it if this process dies now."""
    request, deployment, caller, entry = (
        account.request,
        account.deployment,
        account.caller,
        account.entry,
    )
    assert request is not None
    assert deployment is not None
    assert caller is not None
    assert entry is not None
    return Begun(
        id=account.arrival.id,
        request_id=account.arrival.request_id,
        route=account.route.path,
        received_wall_s=account.received_wall_s,
        deployment=deployment.name,
        model=request.model,
        engine=deployment.engine,
        replica_id=replica_id,
        key_id=caller.key_id,
        tenant=caller.tenant,
        stream=request.stream,
        attempts=attempts,
        prompt_tokens=entry.prompt_tokens,
        rates=deployment.rates,
    )
