"""Decodes the body of a foreign API's request; its errors name the field, the value and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from inferry.core.errors import InvalidRequest
from inferry.core.suggest import did_you_mean
from inferry.gateway.decode import _explain
from inferry.gateway.fronts.front import Models

_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")
_NO_WORD = re.compile(r"Invalid enum value '(?P<word>.*)' - at `\$\.(?P<at>[^`]*)`$", re.DOTALL)
_INDEX = re.compile(r"\[\d+\]")
_SHOWN_BYTES_MAX = 64 * 1024
"""Of a body whose wrong value is shown: to find it, all of the body is read once more, without any bounds."""


def reader(kind: type[_Kind], parts: Mapping[str, type[msgspec.Struct]]) -> Callable[[bytes, Models], _Kind]:
    """A decoder of bodies. `parts`: the structs of objects inside, by their place, to name known fields and words."""
    decode = msgspec.json.Decoder(kind).decode
    known: dict[str, type[msgspec.Struct]] = {"": kind, **parts}

    def read(body: bytes, models: Models) -> _Kind:
        """Raises InvalidRequest."""
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            shown = body if len(body) <= _SHOWN_BYTES_MAX else b""
            raise _explained(str(error), shown, known, models) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not body.strip():
                raise InvalidRequest("The request has no body: send a JSON object.") from None
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        except RecursionError:
            raise InvalidRequest("The request body is nested too deeply.") from None

    return read


def _explained(
    text: str, body: bytes, known: Mapping[str, type[msgspec.Struct]], models: Models
) -> InvalidRequest:
    if (wrong := _NO_WORD.match(text)) is not None:
        return _no_word(wrong["word"], wrong["at"], known)
    found = _UNKNOWN.match(text)
    if found is None:
        return _explain(text, body, models.names())
    name, place = found[1], found[2] or ""
    where = f"{place}.{name}" if place else name
    part = known.get(_INDEX.sub("[...]", place))
    near = did_you_mean(name, part.__struct_encode_fields__ if part else ())
    return InvalidRequest(f"Unknown parameter: '{where[:100]}'.{near}", param=where[:100])


def _no_word(word: str, at: str, known: Mapping[str, type[msgspec.Struct]]) -> InvalidRequest:
    """A text that is none of those that its field, a Literal of one of the `known`, may have."""
    place, _, name = at.rpartition(".")
    kind = get_type_hints(known[_INDEX.sub("[...]", place)])[name]
    allowed = ", ".join(f"'{each}'" for each in get_args(kind))
    shown = word if len(word) <= 60 else f"{word[:57]}..."
    return InvalidRequest(f"Invalid value for '{at}': '{shown}'. Say one of {allowed}.", param=at)


def refuse_others(given: Any, name: str, neutral: Collection[object], why: str) -> None:
    """Raises InvalidRequest unless the parameter is left out or at a value that asks for nothing."""
    if given is None or given is msgspec.UNSET or given in neutral:
        return
    raise InvalidRequest(f"'{name}' is not supported here: {why}", param=name)
