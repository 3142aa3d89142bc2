"""What an exchange needs of its client's side. Two fronts implement it: the protocol and the ASGI app."""

from __future__ import annotations

from typing import Protocol


class ClientSink(Protocol):
    """Takes one response. Nothing here blocks; pressure comes back through the exchange's pause and resume."""

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        """Begin the response. `header_lines`: `name: value\\r\\n`, without framing headers.

        May be held until the first `write` or `end`, to go out together.
        """

    def write(self, data: bytes) -> None: ...

    def end(self, data: bytes = b"") -> None:
        """The response is whole, after `data`."""

    def cut(self) -> None:
        """The response can't be completed: make sure that the client notices."""
