"""The kustomize base and its overlays, built by kubectl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from inferry.cli.rendered_files import write_folder
from inferry.render.kustomize import render_kustomize
from inferry.render.shipment import Shipment
from tests.ship.golden import check_golden
from tests.ship.shipments import everything_shipment, vllm_shipment
from tests.ship.tools import passes, run, tool


def built(folder: Path, overlay: str, shipment: Shipment) -> list[dict[str, Any]]:
    write_folder(folder, render_kustomize(shipment))
    text = passes(tool("kubectl"), "kustomize", str(folder / "overlays" / overlay))
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def test_what_was_reviewed_is_what_is_rendered() -> None:
    """Twice the same text, that of the golden files."""
    files = render_kustomize(vllm_shipment())
    assert files == render_kustomize(vllm_shipment())
    check_golden(
        "kustomize", {name: text for name, text in files.items() if name.endswith("kustomization.yaml")}
    )


def test_dev_is_small_and_apart(tmp_path: Path) -> None:
    """One of each, in a namespace of its own, without disruption budgets; each object still fits its schema."""
    objects = built(tmp_path, "dev", everything_shipment())
    namespaced = [each for each in objects if each["kind"] not in ("Namespace", "PriorityClass")]
    assert {each["metadata"]["namespace"] for each in namespaced} == {"inferry-dev"}
    assert [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"] == ["inferry-dev"]
    workloads = [each for each in objects if each["kind"] in ("Deployment", "StatefulSet")]
    assert {each["spec"]["replicas"] for each in workloads} == {1}
    assert not [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    for each in objects:
        kubernetes_validate.validate(each, "1.37", strict=True)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("registry.example.com:5000/llm/inferry:1.2.0", "registry.example.com:5000/llm/inferry:1.2.0"),
        ("inferry@sha256:" + "a" * 64, "inferry@sha256:" + "a" * 64),
    ],
)
def test_prod_pins_the_image(image: str, shown: str, tmp_path: Path) -> None:
    """By version or digest, and with as many replicas as the file says."""
    objects = built(tmp_path, "prod", vllm_shipment(image=image))
    workloads = {
        each["metadata"]["name"]: each["spec"]
        for each in objects
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    assert workloads["inferry-gateway"]["template"]["spec"]["containers"][0]["image"] == shown
    assert workloads["inferry-chat"]["replicas"] == 2
    assert len([each for each in objects if each["kind"] == "PodDisruptionBudget"]) == 2


def test_a_broken_overlay_is_found(tmp_path: Path) -> None:
    """kubectl refuses a field that it does not know, so that the checks above can fail."""
    built(tmp_path, "prod", vllm_shipment())
    path = tmp_path / "overlays/prod/kustomization.yaml"
    path.write_text(path.read_text().replace("images:", "imagess:"))
    assert run(tool("kubectl"), "kustomize", str(path.parent)).returncode != 0
