"""Makes a Shipment of a deployment file: which engines get containers, which secrets and files go along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from inferry import __version__
from inferry.cli.engines_choice import choose_loaded
from inferry.cli.engines_forms import ContainerWishes, container_form
from inferry.cli.shipped_paths import paths_inside
from inferry.core.config_file import LoadedFile, read_tree
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import split_listen
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.render.shipment import DEFAULT_PROXY, ENGINE_PORT, ProxyWishes, Shipment, ShippedEngine

FILES_FOLDER = Path("files")
"""Of an engine's own files, beside what is rendered."""


def make_shipment(
    loaded: LoadedFile,
    text: str,
    environ: Mapping[str, str],
    *,
    name: str = "inferry",
    host: str = "llm.example.com",
    image: str | None = None,
    gateways: int = 2,
    upstreams: tuple[str, ...] = (),
    proxy: ProxyWishes = DEFAULT_PROXY,
) -> Shipment:
    """`text`: of the file, as it is written. Raises ConfigError for names that nobody takes, and for deployments that can't be put into a container."""
    _check_names(name, host, image, upstreams)
    _check_proxy(proxy)
    engines, embedded, outside = [], [], []
    for each, deployment in loaded.config.deployments.items():
        if not isinstance(deployment, ManagedBase) or deployment.runs_elsewhere:
            outside.append(each)
        elif _is_embedded(deployment):
            embedded.append(each)
        else:
            engines.append(_engine(loaded, each, deployment, environ))
    tree, mounts = paths_inside(read_tree(text, loaded.path.name), loaded.config, embedded)
    # Where replicas run is what is rendered; the gateway inside needs no cluster.
    tree.pop("runtime", None)
    return Shipment(
        config=loaded.config,
        tree=tree,
        image=image or f"inferry:{__version__}",
        version=__version__,
        mounts=mounts,
        engines=tuple(engines),
        embedded=tuple(embedded),
        outside=tuple(outside),
        secrets=tuple(sorted(loaded.variables)),
        name=name,
        host=host,
        gateways=gateways if (loaded.config.ledger.url or "sqlite").startswith("postgresql") else 1,
        upstreams=upstreams,
        proxy=proxy,
    )


def _check_names(name: str, host: str, image: str | None, upstreams: tuple[str, ...]) -> None:
    label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if not (len(name) <= 40 and re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)):
        raise ConfigError(f"--name {name}: write small letters, digits and '-', 40 at most, as in inferry")
    if not (len(host) <= 253 and re.fullmatch(rf"({label}\.)*{label}", host)):
        raise ConfigError(f"--host {host}: write a host name without scheme and port, as in llm.example.com")
    if image is not None and not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._:/@-]{0,250}", image):
        raise ConfigError(f"--image {image}: write it as registry/name:version")
    for upstream in upstreams:
        try:
            split_listen(upstream)
        except ValueError as error:
            raise ConfigError(f"--upstream {upstream}: {error}") from None
    if image is not None and not re.search(r"[:@][^/]+$", image):
        raise ConfigError(
            f"--image {image}: add its version, as in {image}:1.2.0: 'latest' changes under you"
        )


def _check_proxy(proxy: ProxyWishes) -> None:
    if not re.fullmatch(r"/[\w./-]*", proxy.certificates, re.ASCII):
        raise ConfigError(
            f"--certificates {proxy.certificates}: write a path from '/', of letters, digits, '.', '_' and '-'"
        )
    if proxy.http_port == proxy.https_port:
        raise ConfigError(f"--https-port {proxy.https_port}: that is --http-port, too; choose another one")


def _is_embedded(deployment: ManagedBase) -> bool:
    """It comes with Inferry itself: no image of its own."""
    if isinstance(deployment, LlamaCppDeployment):
        return deployment.binary is None
    return isinstance(deployment, SimulatedDeployment)


def _engine(
    loaded: LoadedFile, name: str, deployment: ManagedBase, environ: Mapping[str, str]
) -> ShippedEngine:
    try:
        choice = choose_loaded(loaded, name)
        form = container_form(choice, ENGINE_PORT, FILES_FOLDER / name, environ, ContainerWishes())
    except ConfigError as error:
        if error.message.startswith("deployments."):
            raise
        raise ConfigError(f"deployments.{name}: {error.message}") from error
    return ShippedEngine(deployment, form.plan, form.probes, deployment.replicas, form.notes)
