"""What a deployment's routing policy wants to know of a request; nothing else is worked out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, UnsetType

from inferry.gateway.account import Account
from inferry.gateway.prompt_blocks import prompt_blocks
from inferry.gateway.public_names import user_of
from inferry.gateway.served import ServedDeployment, ServedSpec
from inferry.policy.routing import NO_FACTS, RouteFacts

SESSION_CHARS_MAX = 1024
"""Of what a client names its session; the rest of a longer one does not count."""
OPENING_BYTES_MAX = 8192
"""Of how a conversation begins."""


def session_headers(served: Iterable[ServedSpec]) -> frozenset[bytes]:
    """Headers that tell sessions apart, in lower case."""
    return frozenset(
        source.removeprefix("header:").encode("ascii")
        for spec in served
        if spec.routing.policy == "session"
        for source in spec.routing.session_by
        if source.startswith("header:")
    )


def route_facts(account: Account) -> RouteFacts:
    """Of a request that has been let in. A new object each time, but for those whose policy wants nothing."""
    deployment = account.deployment
    assert deployment is not None
    wants = deployment.balancer.wants
    return _facts(account, deployment, wants) if wants else NO_FACTS


def _facts(account: Account, deployment: ServedDeployment, wants: Collection[str]) -> RouteFacts:
    request, entry = account.request, account.entry
    assert request is not None
    assert entry is not None
    answer_tokens = 0
    if "answer_tokens" in wants:
        # Clients ask for far more than answers take; what answers took here is the better guess, up to that.
        usual = deployment.estimates.completion_tokens(None, request.choices)
        most = usual if request.max_tokens is None else request.max_tokens * request.choices
        answer_tokens = min(usual, most)
    return RouteFacts(
        prompt_tokens=entry.prompt_tokens if "prompt_tokens" in wants else 0,
        answer_tokens=answer_tokens,
        blocks=prompt_blocks(request.body, request.model) if "blocks" in wants else (),
        session=_session(account, deployment.spec.routing.session_by) if "session" in wants else None,
    )


def _session(account: Account, sources: Sequence[str]) -> str | None:
    """What it belongs to, by the first of `sources` that it has; all gateway processes say the same."""
    request = account.request
    assert request is not None
    for source in sources:
        match source:
            case "user":
                found = user_of(request.body)
            case "conversation":
                found = conversation_of(request.body)
            case "key":
                found = None if account.caller is None else account.caller.key_id
            case _:
                value = account.arrival.kept.get(source.removeprefix("header:").encode("ascii"))
                found = None if value is None else value.decode("latin-1")
        if found:
            return f"{source}={found[:SESSION_CHARS_MAX]}"
    return None


class _Conversation(msgspec.Struct):
    """OpenAI's names for what belongs together, and else the beginning of the prompt."""

    prompt_cache_key: str | None = None
    conversation: Raw | UnsetType = UNSET
    system: Raw | UnsetType = UNSET
    instructions: Raw | UnsetType = UNSET
    messages: list[Raw] | None = None
    prompt: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET


class _Role(msgspec.Struct):
    role: str | None = None


_decode_conversation = msgspec.json.Decoder(_Conversation).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_role = msgspec.json.Decoder(_Role).decode


def conversation_of(body: bytes) -> str | None:
    """`prompt_cache_key`, or the Responses API's `conversation`; else a hash of how it begins: what comes before the
    first user's turn, and that turn, which all later requests of the conversation repeat. None: nothing of these."""
    try:
        found = _decode_conversation(body)
        if found.prompt_cache_key:
            return found.prompt_cache_key
        if isinstance(found.conversation, Raw) and (named := bytes(found.conversation)) != b"null":
            return named.decode(errors="replace")
        opening = b"".join(_opening(found))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # what it is, is the engine's to say
        return None
    return blake2b(opening[:OPENING_BYTES_MAX], digest_size=12).hexdigest() if opening else None


def _opening(found: _Conversation) -> Iterable[bytes]:
    for each in (found.system, found.instructions, found.prompt):
        if isinstance(each, Raw):
            yield bytes(each)
    turns = found.messages or ()
    if isinstance(found.input, Raw):
        if memoryview(found.input)[0] != ord("["):
            yield bytes(found.input)
        else:
            turns = _decode_list(found.input)
    for turn in turns:
        yield bytes(turn)
        if memoryview(turn)[0] == ord("{") and _decode_role(turn).role == "user":
            return
