"""What may go on of the last events of an engine that then failed: its words, and not its farewell."""

from __future__ import annotations

import msgspec

from inferry.gateway.sse import each_event, event_fields
from inferry.gateway.verdict import GIVEN_UP, error_in

_encode = msgspec.json.encode


def sound_part(events: bytes) -> bytes:
    """Without error frames, [DONE], bare usage, what is no JSON, reasons that say that it was given up, and a half event at the end."""
    return b"".join(map(_sound, each_event(events)))


def _sound(event: bytes) -> bytes:
    fields = event_fields(event)
    if fields is None:  # [DONE], what is no JSON, or a comment
        return b"" if b"data:" in event else event
    choices = fields.get("choices")
    if error_in(fields) is not None or choices == []:
        return b""
    gave_up = [
        choice
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict) and choice.get("finish_reason") in GIVEN_UP
    ]
    if not gave_up:
        return event
    for choice in gave_up:
        choice["finish_reason"] = None
    has_text = any(choice.get("text") or any((choice.get("delta") or {}).values()) for choice in gave_up)
    return b"data: " + _encode(fields) + b"\n\n" if has_text else b""
