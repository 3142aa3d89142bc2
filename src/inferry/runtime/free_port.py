"""Loopback ports for replicas."""

from __future__ import annotations

import socket
from collections import deque

RECENT_MAX = 512
"""Given-out ports to keep in mind: an engine may take minutes until it listens on its port."""


class PortPicker:
    """Gives out ports that are free now, and no port again soon.

    Between here and the engine's own bind, any program may take the port; the engine then ends, and its next
    start gets another one.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._recent: deque[int] = deque(maxlen=RECENT_MAX)

    def pick(self) -> int:
        held: list[socket.socket] = []
        try:
            while True:
                # Kept open until we have one, so that the system doesn't offer the same port again.
                one = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
                held.append(one)
                one.bind((self._host, 0))
                port: int = one.getsockname()[1]
                if port not in self._recent:
                    self._recent.append(port)
                    return port
        finally:
            for one in held:
                one.close()
