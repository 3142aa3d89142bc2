"""The stand-in for people: `python -m tests.standins.kubernetes --folder DIR`, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from tests.standins.kubernetes.standin import StandinKubernetes


def main() -> None:
    """Serve, and say how to reach it."""
    parser = argparse.ArgumentParser(description="A stand-in for a Kubernetes cluster. It is not Kubernetes.")
    parser.add_argument("--folder", type=Path, required=True, help="kubeconfig, pods' files and logs go here")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rbac", action="store_true", help="obey roles")
    parser.add_argument("--pods", choices=["processes", "statuses", "none"], default="processes")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each of the two nodes")
    parser.add_argument(
        "--pace", type=float, default=1.0, help="what probes' and back-off's seconds are multiplied by"
    )
    parser.add_argument("--tls", action="store_true", default=None)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    nodes = {"node-0": given.gpus, "node-1": given.gpus}
    with StandinKubernetes(
        rbac=given.rbac,
        pods=given.pods,
        folder=given.folder,
        nodes=nodes,
        pace=given.pace,
        tls=given.tls,
        port=given.port,
    ) as k8s:
        path = k8s.kubeconfig(given.folder / "kubeconfig")
        sys.stdout.write(f"stand-in for Kubernetes at {k8s.url}: export KUBECONFIG={path}\n")
        sys.stdout.flush()
        with k8s.quiet():
            threading.Event().wait()


if __name__ == "__main__":
    main()
