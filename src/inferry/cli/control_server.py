"""The control API on the network: on a Unix socket that only its owner can reach, and by TCP where the file
asks for that."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from inferry.admin.auth import KeyGate
from inferry.core.clock import Clock
from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Admin
from inferry.gateway.server import EmbeddedServer
from inferry.gateway.tls import load_tls
from inferry.ledger.keyring import KeyRing


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


def admin_server(admin: Admin, app: ASGIApp, keyring: KeyRing, clock: Clock) -> uvicorn.Server | None:
    """The control API for other machines, where the file asks for it: keys are asked for there. Raises ConfigError."""
    if admin.listen is None:
        return None
    return control_server(KeyGate(app, keyring, clock), None if admin.tls is None else load_tls(admin.tls))


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
