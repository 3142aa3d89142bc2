"""One error tree, split by who must act.

    InferryError
    ├── ConfigError     the operator: a file, a flag, a missing model, a busy port
    ├── Rejected        the client: the request is wrong or not allowed (4xx)
    ├── EngineError     the engine or the fleet: nobody could answer (502, 503, 504)
    └── LedgerError     the platform: a record could not be kept

Each carries a stable `code`, an HTTP `status`, and whether the same request may be tried again.
Cancellation is not an error and is not here. Rendering to a wire format is the gateway's business.
"""

from __future__ import annotations

from typing import ClassVar


class InferryError(Exception):
    """A failure with a message for a person: what, where, and the way out."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    elsewhere: bool = False
    """Another deployment may well take the request that this one did not."""
    exit_code: int = 1
    """Of a command that ends with it."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


# --- the operator must act ----------------------------------------------------------------------------


class ConfigError(InferryError):
    """The deployment file, a flag or the machine is not as it must be."""

    code = "config_error"


class ModelNotFound(ConfigError):
    """A model source names something that is not there."""

    code = "model_source_not_found"


class ModelFetchFailed(ConfigError):
    """A model could not be brought here: no network, a cut download, a wrong checksum, a full disk."""

    code = "model_fetch_failed"
    retryable = True


class EngineInstallFailed(ConfigError):
    """An engine's environment could not be made: no network, no such version, a full disk, no compiler."""

    code = "engine_install_failed"
    retryable = True


class ConversionFailed(ConfigError):
    """A model could not be written in another format."""

    code = "conversion_failed"


class StartFailed(ConfigError):
    """A replica can't be started, and trying again would not help."""

    code = "start_failed"


class RolloutFailed(ConfigError):
    """New replicas were no good; what was there before serves on."""

    code = "rollout_failed"


class BadBenchPlan(ConfigError):
    """A load that the bench can't make: a number out of its range, a file that is not of its format."""

    code = "bad_bench_plan"


class BenchClientFailed(ConfigError):
    """The load generator's own processes could not be started, or have died."""

    code = "bench_client_failed"


# --- the client must act ------------------------------------------------------------------------------


class Rejected(InferryError):
    """The request was not admitted; nothing was sent to an engine."""

    code = "invalid_request"
    status = 400


class InvalidRequest(Rejected):
    """The body or a parameter is malformed."""


class UnknownModel(Rejected):
    """`model` names no deployment."""

    code = "model_not_found"
    status = 404


class UnknownRoute(Rejected):
    """There is no such path."""

    code = "unknown_url"
    status = 404


class UnsupportedRoute(Rejected):
    """The path exists, but the engine behind this deployment does not have it."""

    code = "unsupported_route"
    status = 404


class CrossSiteRequest(Rejected):
    """A web page of another site asked, in somebody's browser, and the file does not allow it."""

    code = "cross_site_request"
    status = 403


class MethodNotAllowed(Rejected):
    """The path exists for another method."""

    code = "method_not_allowed"
    status = 405


class BodyTooLarge(Rejected):
    """The body is longer than `gateway.body_max_bytes`."""

    code = "request_too_large"
    status = 413


class ContextLengthExceeded(Rejected):
    """The prompt is longer than what the engine computes of it."""

    code = "context_length_exceeded"


class PromptMismatch(Rejected):
    """The engine computed another prompt than the model's template gives, and the file says to refuse that."""

    code = "prompt_mismatch"
    status = 422


class RequestTimeout(Rejected):
    """The client did not finish sending its request in time."""

    code = "request_timeout"
    status = 408


class UnknownKey(Rejected):
    """No API key has that id or name."""

    code = "key_not_found"
    status = 404


class UnknownReplica(Rejected):
    """No deployment or replica has that name."""

    code = "replica_not_found"
    status = 404


class LifecycleRefused(Rejected):
    """What was asked of a deployment or replica can't be done, or not now."""

    code = "lifecycle_refused"
    status = 409


class KeyNameTaken(Rejected):
    """Another key of the tenant has that name."""

    code = "key_name_taken"
    status = 409


class BadKeySetting(Rejected):
    """What a key was to be given is malformed."""

    code = "bad_key_setting"
    status = 400


class MissingKey(Rejected):
    """The request carries no API key."""

    code = "missing_api_key"
    status = 401


class InvalidKey(Rejected):
    """The API key is mistyped, or not known here."""

    code = "invalid_api_key"
    status = 401


class DisabledKey(Rejected):
    """The API key has been switched off."""

    code = "api_key_disabled"
    status = 401


class ExpiredKey(Rejected):
    """The API key's time is over."""

    code = "api_key_expired"
    status = 401


class WrongScope(Rejected):
    """The API key is good, but not for this."""

    code = "insufficient_scope"
    status = 403


class DeploymentNotAllowed(Rejected):
    """The API key may not call this deployment."""

    code = "deployment_not_allowed"
    status = 403


class QueueFull(Rejected):
    """All replicas of the deployment are busy, and no place to wait is free, or not for so long."""

    code = "queue_full"
    status = 429
    retryable = True
    elsewhere = True


class QueueTimeout(Rejected):
    """It waited for a replica as long as `queue.wait_max_s` allows."""

    code = "queue_timeout"
    status = 429
    retryable = True
    elsewhere = True


class ContentFiltered(Rejected):
    """A filter of the operator's does not let the request or its answer through."""

    code = "content_filter"


class EngineRejected(Rejected):
    """The engine refuses the request, and says so in its stream, where others answer 400."""

    code = "engine_rejected"


class RateLimited(Rejected):
    """A key, a tenant or a deployment has had its requests of the minute."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True


class TokensLimited(Rejected):
    """A key, a tenant or a deployment has had its tokens of the minute."""

    code = "token_rate_limit_exceeded"
    status = 429
    retryable = True


class TooManyInFlight(Rejected):
    """A key, a tenant or a deployment has as many requests under way as it may."""

    code = "too_many_requests_in_flight"
    status = 429
    retryable = True


class BudgetSpent(Rejected):
    """The token or money budget of the UTC day or month is spent."""

    code = "insufficient_quota"
    status = 429


# --- the engine must act ------------------------------------------------------------------------------


class EngineError(InferryError):
    """No engine could give an answer."""

    code = "engine_error"
    status = 502
    retryable = True
    elsewhere = True


class NoReadyReplica(EngineError):
    """The deployment is known, but none of its replicas takes requests now."""

    code = "no_ready_replica"
    status = 503


class ModelNotLoaded(NoReadyReplica):
    """The deployment's model is loaded on demand, and could not be, or not in time."""

    code = "model_not_loaded"


class EngineUnreachable(EngineError):
    """Connections to the replica fail or break before an answer begins."""

    code = "engine_unreachable"


class EngineBroke(EngineError):
    """The replica's answer broke off in the middle, or was not HTTP."""

    code = "engine_broke"


class EngineTimeout(EngineError):
    """The replica stayed silent longer than the file allows."""

    code = "engine_timeout"
    status = 504


class EngineStreamError(EngineError):
    """The replica reported an error in the middle of its answer."""

    code = "engine_stream_error"


class EngineAborted(EngineError):
    """The replica gave the answer up, as one does that is being stopped."""

    code = "engine_aborted"


class EngineUnfinished(EngineError):
    """The replica's answer ended in order, and without a word on why."""

    code = "engine_unfinished"


# --- the platform must act ----------------------------------------------------------------------------


class LedgerError(InferryError):
    """A record could not be kept or read."""

    code = "ledger_error"


class LedgerUnavailable(LedgerError):
    """The store is away, busy, full or read-only: it may pass."""

    code = "ledger_unavailable"
    status = 503
    retryable = True


class LimitsUnavailable(LedgerError):
    """Who keeps the counts can't be asked now, so a limited request can't be admitted."""

    code = "limits_unavailable"
    status = 503
    retryable = True
