"""What a front is: a path of another server's API, and how its requests and answers are put into other words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from inferry.core.request import Route


class NotAnswered(Exception):
    """What came back is no answer in the dialect's sense: its HTTP status, and words for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Writer(Protocol):
    """Writes one answer in the dialect of a front. Made for one request; raises NotAnswered."""

    stream_type: bytes | None
    """The content type of a streamed answer; None: it shall come whole, as JSON."""

    def whole(self, body: bytes) -> bytes:
        """The JSON body for the client, from the inner route's. Asked for only where the answer is no stream."""

    def piece(self, data: bytes) -> bytes:
        """What the client gets for one event of the inner stream: for its JSON, maybe nothing."""

    def last(self) -> bytes:
        """What ends the stream."""


class Grumbler(Protocol):
    """How a dialect tells errors."""

    def error(self, status: int, message: str) -> bytes:
        """The JSON body of an error answer."""

    def error_piece(self, status: int, message: str) -> bytes:
        """The same in the middle of a stream."""


class Models(Protocol):
    """Which models the caller may name."""

    def names(self) -> Iterable[str]:
        """All of them, aliases among them."""

    def known(self, name: str) -> str:
        """`name` as a deployment goes by it here: without Ollama's `:latest` if that is how it is known."""

    def chosen(self, route: Route) -> str:
        """The model of a request that names none in its body: the header's, or the only one that has `route`.

        Raises InvalidRequest that names those to choose from.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in the words of the inner route."""

    route: Route
    body: bytes
    writer: Writer


@dataclass(frozen=True, slots=True)
class Wakes:
    """A request that only wants its model to be there, as Ollama loads one for an empty prompt. No engine is asked."""

    route: Route
    model: str
    answer: bytes
    """JSON, for the client, if a replica is ready."""


@dataclass(frozen=True, slots=True)
class Moments:
    """The clock, as an answer needs it."""

    now_s: Callable[[], float]
    wall_s: Callable[[], float]


Translate = Callable[[bytes, Models, Moments], Asked | Wakes]


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """A POST path of another server's API."""

    path: str
    route: Route
    """The inner route that a request counts for until its body says more."""
    translate: Translate
    """Raises InvalidRequest in the words of the outer API."""
    errors: Grumbler
