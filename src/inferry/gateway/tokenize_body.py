"""`/tokenize` in the words of the engine: llama.cpp reads the text from `content`, vLLM and its like from `prompt`."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from inferry.core.errors import InvalidRequest

_OTHER = {"content": "prompt", "prompt": "content"}
_decode = msgspec.json.Decoder(dict[str, Raw]).decode


def with_text_in(field: str, body: bytes) -> bytes:
    """A decoded and valid request's body with its text in `field`; the very same where it stands there already.

    A chat (`messages`) goes on as it is to engines that read `prompt`: they know it. Raises InvalidRequest for one
    that knows texts only, since llama.cpp would answer no tokens, as if there were no text.
    """
    try:
        fields = _decode(body)
    except UnicodeDecodeError as error:  # in a key that the first decoding had no reason to look at
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if field in fields:
        return body
    if _OTHER[field] in fields:
        return msgspec.json.encode(
            {field if name == _OTHER[field] else name: fields[name] for name in fields}
        )
    if field == "content":
        raise InvalidRequest(
            "This deployment's engine makes tokens of texts, not of chats: send 'content' or 'prompt'.",
            param="messages",
        )
    return body
