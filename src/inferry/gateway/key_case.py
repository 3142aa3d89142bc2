"""Refuses fields that only some engines would understand: those written in other letters than the API's.

Engines in Go (encoding/json) take `Max_Tokens` for `max_tokens`, so it would pass by whatever looks at the latter.
Asked only where a cap, a filter or a key's list of deployments could be passed by: it reads the body's fields once
more, 0.3 us for a short chat.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from inferry.core.errors import InvalidRequest
from inferry.core.request import LENGTH_FIELDS

_KNOWN = frozenset(
    {
        *LENGTH_FIELDS, "best_of", "content", "documents", "input", "instructions", "messages", "model", "n",
        "n_cmpl", "prompt", "query", "stream", "stream_options", "suffix", "system", "tools",
    }
)  # fmt: skip
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def refuse_other_case(body: bytes) -> None:
    """Raises InvalidRequest that names the field. `body`: a JSON object."""
    try:
        fields = _decode_fields(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    for name in fields:
        # Folded, not lowered: the Kelvin sign is a k for Go too.
        if name not in _KNOWN and (known := name.casefold()) in _KNOWN:
            shown = name.encode("ascii", "backslashreplace").decode()
            raise InvalidRequest(
                f"Unknown parameter: '{shown}'. Engines differ in what they take it for: write '{known}'.",
                param=shown,
            )
