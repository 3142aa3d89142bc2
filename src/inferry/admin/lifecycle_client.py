"""Asks a running Inferry to scale, drain, restart and roll out."""

from __future__ import annotations

from urllib.parse import quote

from inferry.admin.client import ControlClient
from inferry.admin.lifecycle_api import DoneView
from inferry.admin.rollout_view import RolloutView

TIMEOUT_S = 7200.0
"""Replicas are replaced one by one, and big models load slowly."""


class LifecycleClient(ControlClient):
    """As ControlClient; each call returns when it is done."""

    def scale(self, deployment: str, replicas: int) -> DoneView:
        return self._done(f"/deployments/{_part(deployment)}/scale", {"replicas": replicas})

    def drain(self, target: str, grace_s: float | None) -> DoneView:
        return self._done("/drain", {"target": target, "grace_s": grace_s})

    def undrain(self, target: str) -> DoneView:
        return self._done("/undrain", {"target": target})

    def restart(self, target: str, grace_s: float | None = None) -> DoneView:
        return self._done("/restart", {"target": target, "grace_s": grace_s})

    def rollout(self, deployment: str) -> DoneView:
        return self._done(f"/deployments/{_part(deployment)}/rollout")

    def undo(self, deployment: str) -> DoneView:
        return self._done(f"/deployments/{_part(deployment)}/rollout/undo")

    def rollouts(self) -> list[RolloutView]:
        found = self._call("GET", "/rollouts")
        assert isinstance(found, list)
        return [RolloutView.model_validate(each) for each in found]

    def _done(self, path: str, body: object = None) -> DoneView:
        return DoneView.model_validate(self._call("POST", path, body, timeout_s=TIMEOUT_S))


def _part(name: str) -> str:
    return quote(name, safe="")
