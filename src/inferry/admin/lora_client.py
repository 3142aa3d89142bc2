"""Asks a running Inferry about LoRA adapters."""

from __future__ import annotations

from urllib.parse import quote

from inferry.admin.client import ControlClient
from inferry.admin.lora_api import LoraAnswer, LoraView

TIMEOUT_S = 600.0
"""Longer than any engine is given to load one."""


class LoraClient(ControlClient):
    """As ControlClient; each call returns when it is done at every replica."""

    def load(self, deployment: str, name: str, path: str) -> LoraAnswer:
        answer = self._call("POST", _at(deployment), {"name": name, "path": path}, timeout_s=TIMEOUT_S)
        return LoraAnswer.model_validate(answer)

    def unload(self, deployment: str, name: str) -> LoraAnswer:
        answer = self._call("DELETE", f"{_at(deployment)}/{quote(name, safe='')}", timeout_s=TIMEOUT_S)
        return LoraAnswer.model_validate(answer)

    def adapters(self) -> list[LoraView]:
        found = self._call("GET", "/lora")
        assert isinstance(found, list)
        return [LoraView.model_validate(each) for each in found]


def _at(deployment: str) -> str:
    return f"/deployments/{quote(deployment, safe='')}/lora"
