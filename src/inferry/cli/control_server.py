"""The control API on the network: on a Unix socket that only its owner can reach, and by TCP where the file
asks for that."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from inferry.core.errors import ConfigError
from inferry.gateway.server import EmbeddedServer


def control_socket(path: Path) -> socket.socket:
    """A listening Unix socket at `path`; raises ConfigError with the way out."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"The control socket {path} can't be made: {error.strerror or error}. Name another folder in TMPDIR."
        ) from error
    listener.setblocking(False)
    return listener


def control_server(app: ASGIApp, tls: ssl.SSLContext | None = None) -> uvicorn.Server:
    """Serves `app` on sockets that are given to its `serve`."""
    return EmbeddedServer(
        uvicorn.Config(
            app,
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            timeout_graceful_shutdown=1,
        )
    )
