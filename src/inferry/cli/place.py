"""Where an instance of Inferry runs: its file, its folder, its sockets."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from inferry.core.config_file import LoadedFile


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance runs: fixed before anything is started."""

    loaded: LoadedFile
    home: Path
    listeners: list[socket.socket]
    """One for each gateway process, all on the same port."""
    host: str
    admin_listeners: list[socket.socket]

    @property
    def port(self) -> int:
        return int(self.listeners[0].getsockname()[1])

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        scheme = "http" if self.loaded.config.gateway.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
