"""The rendered objects applied by real kubectl to the stand-in for Kubernetes' API, which knows every kind's fields."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from inferry.cli.rendered_files import write_folder
from inferry.render.kubernetes.rendering import render_kubernetes
from tests.ship.crd_schemas import crd_folder
from tests.ship.shipments import everything_shipment
from tests.ship.tools import tool
from tests.standins.kubernetes import StandinKubernetes

pytestmark = pytest.mark.slow


def test_kubectl_applies_everything_twice(tmp_path: Path) -> None:
    """All objects and all options but one of two scalers are taken, a second time nothing changes; a field that Kubernetes does not know is refused by the server."""
    crd_folder()
    folder = tmp_path / "out"
    write_folder(folder, render_kubernetes(everything_shipment()))
    with StandinKubernetes(pods="statuses", folder=tmp_path) as k8s:
        config = k8s.kubeconfig(tmp_path / "kubeconfig")

        def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
            argv = [tool("kubectl"), "--kubeconfig", str(config), *words]
            return subprocess.run(argv, capture_output=True, text=True, timeout=120)

        first = kubectl("apply", "-k", str(folder))
        assert first.returncode == 0, first.stderr
        assert first.stdout.count("created") >= 14
        for option in ("gateway-api", "prometheus-operator", "hpa"):
            done = kubectl("apply", "-f", str(folder / f"options/{option}.yaml"))
            assert done.returncode == 0, done.stderr
        again = kubectl("apply", "-k", str(folder))
        assert again.returncode == 0, again.stderr
        # kubectl always sends a budget's selector again, whatever it is: its merge strategy is to replace it.
        changed = [line for line in again.stdout.splitlines() if not line.endswith(" unchanged")]
        assert [line for line in changed if not line.startswith("poddisruptionbudget.policy/")] == []
        rolled = kubectl("rollout", "status", "deployment/inferry-gateway", "-n", "inferry", "--timeout=60s")
        assert rolled.returncode == 0, rolled.stdout + rolled.stderr
        found = json.loads(
            kubectl("get", "deployment", "inferry-gateway", "-n", "inferry", "-o", "json").stdout
        )
        assert found["status"]["readyReplicas"] == 2
        path = folder / "network.yaml"
        path.write_text(path.read_text().replace("policyTypes:", "policyTipes:", 1))
        refused = kubectl("apply", "-k", str(folder))
        assert refused.returncode != 0
        assert "policyTipes" in refused.stderr
