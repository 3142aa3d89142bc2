"""Decodes the body of a foreign API's request; its errors name the field, the value and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from inferry.core.errors import InvalidRequest
from inferry.core.suggest import did_you_mean
from inferry.gateway.decode import _explain

_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")
_INDEX = re.compile(r"\[\d+\]")
_SHOWN_BYTES_MAX = 64 * 1024
"""Of a body whose wrong value is shown: to find it, all of the body is read once more, without any bounds."""


def reader(kind: type[_Kind], parts: Mapping[str, type[msgspec.Struct]]) -> Callable[[bytes], _Kind]:
    """A decoder of bodies. `parts`: the structs of objects inside, by their place, to suggest known names from."""
    decode = msgspec.json.Decoder(kind).decode
    known = {"": kind.__struct_encode_fields__} | {
        place: part.__struct_encode_fields__ for place, part in parts.items()
    }

    def read(body: bytes) -> _Kind:
        """Raises InvalidRequest."""
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise _explained(str(error), body if len(body) <= _SHOWN_BYTES_MAX else b"", known) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not body.strip():
                raise InvalidRequest("The request has no body: send a JSON object.") from None
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        except RecursionError:
            raise InvalidRequest("The request body is nested too deeply.") from None

    return read


def _explained(text: str, body: bytes, known: Mapping[str, Iterable[str]]) -> InvalidRequest:
    found = _UNKNOWN.match(text)
    if found is None:
        return _explain(text, body, ())
    name, place = found[1], found[2] or ""
    where = f"{place}.{name}" if place else name
    near = did_you_mean(name, known.get(_INDEX.sub("[...]", place), ()))
    return InvalidRequest(f"Unknown parameter: '{where[:100]}'.{near}", param=where[:100])


def refuse_others(given: Any, name: str, neutral: Collection[object], why: str) -> None:
    """Raises InvalidRequest unless the parameter is left out or at a value that asks for nothing."""
    if given is None or given is msgspec.UNSET or given in neutral:
        return
    raise InvalidRequest(f"'{name}' is not supported here: {why}", param=name)
