"""What the tests of the fronts share: models that a caller may name, a clock by hand, a client that notes all."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from inferry.core.errors import InvalidRequest
from inferry.core.request import Route
from inferry.gateway.fronts.front import Asked, Moments, Translate


@dataclass
class Named:
    """Models: `chosen` is `only`, if there is one."""

    only: str | None = "chat"

    def names(self) -> list[str]:
        return ["chat", "other"]

    def known(self, name: str) -> str:
        return name.removesuffix(":latest")

    def chosen(self, route: Route) -> str:
        if self.only is None:
            raise InvalidRequest("Several deployments serve this.", param="model")
        return self.only


@dataclass
class Hands:
    """A clock that stands until it is moved. The wall's is 2026-01-31 12:00:00.25 UTC."""

    now_s: float = 100.0

    @property
    def moments(self) -> Moments:
        return Moments(lambda: self.now_s, lambda: 1769860800.25)


@dataclass
class Client:
    """A ClientSink that keeps what it is given."""

    status: int | None = None
    lines: bytes = b""
    length: int | None = None
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False
    was_cut: bool = False

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        assert self.status is None
        self.status, self.lines, self.length = status, header_lines, length

    def write(self, data: bytes) -> None:
        assert self.status is not None
        assert not self.ended
        assert data, "nothing is no chunk"
        self.pieces.append(data)

    def end(self, data: bytes = b"") -> None:
        assert self.status is not None
        assert not self.ended
        self.ended = True
        if data:
            self.pieces.append(data)

    def cut(self) -> None:
        self.was_cut = True

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def events(self) -> list[dict[str, Any]]:
        """Of TGI's stream."""
        *events, rest = self.body.split(b"\n\n")
        assert rest == b""
        assert all(event.startswith(b"data:") for event in events)
        return [json.loads(event[5:]) for event in events]

    def rows(self) -> list[dict[str, Any]]:
        """Of Ollama's stream."""
        *rows, rest = self.body.split(b"\n")
        assert rest == b""
        return [json.loads(row) for row in rows]


def ask(
    translate: Translate, body: object, models: Named | None = None, hands: Hands | None = None
) -> tuple[dict[str, Any], Asked]:
    """The inner body that a request becomes, and the rest."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = translate(encoded, models or Named(), (hands or Hands()).moments)
    assert isinstance(asked, Asked)
    return json.loads(asked.body), asked
