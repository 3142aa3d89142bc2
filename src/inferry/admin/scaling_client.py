"""Asks a running Inferry how its scaling stands."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from inferry.admin.client import ControlClient
from inferry.admin.scaling_api import AutoView
from inferry.admin.scaling_view import DryRunView, HistoryView, ScalingView
from inferry.core.scaling_settings import Scaling

TRY_S = 60.0
"""Deciding anew at some hundred looks takes well under a second; a busy machine may take longer."""


class ScalingClient(ControlClient):
    """As ControlClient."""

    def explain(self, deployment: str) -> ScalingView:
        return ScalingView.model_validate(self._call("GET", _path(deployment)))

    def dry_run(self, deployment: str, scaling: Scaling | None) -> DryRunView:
        """`scaling`: None for what is in force."""
        given = None if scaling is None else scaling.model_dump(mode="json", exclude_unset=True)
        answer = self._call("POST", f"{_path(deployment)}/dry-run", {"scaling": given}, timeout_s=TRY_S)
        return DryRunView.model_validate(answer)

    def history(self, deployment: str | None, since_wall_s: float | None) -> HistoryView:
        given = {"deployment": deployment, "since": since_wall_s}
        query = urlencode({key: value for key, value in given.items() if value is not None})
        return HistoryView.model_validate(self._call("GET", f"/scaling/history?{query}", timeout_s=TRY_S))

    def auto(self, deployment: str) -> AutoView:
        return AutoView.model_validate(self._call("POST", f"{_path(deployment)}/auto", timeout_s=TRY_S))


def _path(deployment: str) -> str:
    return f"/deployments/{quote(deployment, safe='')}/scaling"
