"""Asks a running Inferry to load and unload models."""

from __future__ import annotations

from urllib.parse import quote

from inferry.admin.client import ControlClient
from inferry.admin.load_api import LoadAnswer

TIMEOUT_S = 7200.0
"""Big models load slowly, and others may have to finish their answers first."""


class LoadClient(ControlClient):
    """As ControlClient; each call returns when it is done."""

    def load(self, deployment: str) -> LoadAnswer:
        return self._done(deployment, "load")

    def unload(self, deployment: str) -> LoadAnswer:
        return self._done(deployment, "unload")

    def _done(self, deployment: str, verb: str) -> LoadAnswer:
        path = f"/deployments/{quote(deployment, safe='')}/{verb}"
        return LoadAnswer.model_validate(self._call("POST", path, timeout_s=TIMEOUT_S))
