"""What the model hub's client raises, in words for an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inferry.core.errors import InferryError, ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import ModelRef

WAY_OUT = "Check the network and pull again (it goes on where it stopped), or use 'file:'."


@contextmanager
def map_hub_errors(
    ref: ModelRef, *, has_token: bool, callers: Callable[[], Exception | None]
) -> Iterator[None]:
    """Turns whatever the hub's client raises into ModelNotFound or ModelFetchFailed, cause chained.

    `callers` gives an exception that came from the caller's own code through the client; that one, errors of
    ours and errors of the disk pass.
    """
    try:
        yield
    except InferryError:
        raise
    # The client has changed its HTTP library twice and passes on that library's errors, so no list of
    # classes holds for all versions we allow.
    except Exception as error:
        own = callers()
        if own is not None:
            raise own from None
        if _is_of_the_disk(error):
            raise
        raise explain(ref, error, has_token=has_token) from error


def _is_of_the_disk(error: Exception) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    foreign = (HfHubHTTPError, ConnectionError, TimeoutError)
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, foreign)


def explain(ref: ModelRef, error: Exception, *, has_token: bool) -> InferryError:
    """The error in our words. Never quotes headers, and so never a token."""
    from huggingface_hub import errors

    login = (
        "The token in HF_TOKEN does not open it: check that it may read this repository."
        if has_token
        else "If it is private, set HF_TOKEN to a token that may read it."
    )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        way = login if has_token else "Accept its terms on the hub's page, then set HF_TOKEN to your token."
        return ModelFetchFailed(f"hf:{ref.name} is gated: its owner gives access on request. {way}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"The hub knows no model repository {ref.name}. Check the spelling. {login}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"hf:{ref.name} has no branch, tag or commit '{ref.revision}'.")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ModelFetchFailed(
            f"{ref} is not in the store, and HF_HUB_OFFLINE forbids to fetch it. Unset it, or use 'file:'."
        )
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return ModelNotFound(f"There is no '{ref.file}' in hf:{ref.name}.")
    if isinstance(error, errors.HFValidationError):
        return ModelNotFound(f"'{ref.name}' can't be the name of a repository: {error}")
    if status in (401, 403):
        way = login if has_token else "Set HF_TOKEN to a token that may read it."
        return ModelFetchFailed(f"The hub refuses access to hf:{ref.name} (HTTP {status}). {way}")
    if status == 429:
        more = "" if has_token else " A token in HF_TOKEN is granted more."
        return ModelFetchFailed(
            f"The hub asks for fewer requests (HTTP 429). Pull again in some minutes.{more}"
        )
    if status is not None:
        return ModelFetchFailed(f"The hub answered HTTP {status} for {ref}. {WAY_OUT}")
    reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return ModelFetchFailed(f"{ref} could not be fetched from the hub: {reason}. {WAY_OUT}")
