"""Asks a running Inferry over its control socket."""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from inferry import __version__
from inferry.admin.api import ReloadAnswer
from inferry.admin.run_record import RunRecord
from inferry.admin.status import Status
from inferry.core.errors import ConfigError

RELOAD_TIMEOUT_S = 7200.0
"""Engines are replaced one by one, and big models load slowly."""


class ControlClient:
    """Calls the control API of one instance; every failure is a ConfigError for a person."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    def status(self) -> Status:
        answer = self._call("GET", "/status")
        try:
            return Status.model_validate(answer)
        except ValidationError as error:
            raise ConfigError(
                f"Inferry on port {self._record.port} (pid {self._record.pid}) answers unlike this version "
                f"({__version__}), so another one started it. End it with 'inferry down' and start it anew."
            ) from error

    def shut_down(self, *, at_once: bool) -> None:
        self._call("POST", "/shutdown", {"at_once": at_once})

    def reload(self) -> ReloadAnswer:
        """Raises ConfigError with what is wrong with the file; then nothing was changed."""
        return ReloadAnswer.model_validate(self._call("POST", "/reload", timeout_s=RELOAD_TIMEOUT_S))

    def _call(self, method: str, path: str, body: object = None, timeout_s: float = 10.0) -> object:
        transport = httpx.HTTPTransport(uds=self._record.socket)
        try:
            with httpx.Client(transport=transport, base_url="http://control", timeout=timeout_s) as client:
                answer = client.request(method, path, json=body)
                if answer.is_client_error or answer.is_server_error:
                    raise ConfigError(answer.json()["error"]["message"])
                return answer.json()
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            first_line = str(error).partition("\n")[0]
            raise ConfigError(
                f"Inferry on port {self._record.port} (pid {self._record.pid}) does not answer: {first_line}. "
                "It may be starting or ending; if it stays so, end it with: kill "
                f"{self._record.pid}"
            ) from error
