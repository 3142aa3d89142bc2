"""Libraries that a deployment file needs and that not every installation has: missed before anything is started."""

from __future__ import annotations

from importlib.util import find_spec

from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError


def check_extras(config: DeploymentFile) -> None:
    """Raises ConfigError that names each key whose library is not installed, and the command that brings it."""
    wanted = []
    if config.gateway.shared_limits.redis is not None:
        wanted.append(("gateway.shared_limits.redis", "redis", "redis"))
    if config.gateway.traces is not None:
        wanted.append(("gateway.traces", "opentelemetry.exporter.otlp", "otel"))
    if config.ledger.url is not None and config.ledger.url.startswith("postgresql"):
        wanted.append(("ledger.url", "psycopg", "postgres"))
    problems = [
        f"{key} needs a library that is not installed. Install it: pip install 'inferry[{extra}]'"
        for key, module, extra in wanted
        if not _is_installed(module)
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it would be a part of
        return False
