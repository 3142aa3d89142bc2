"""`inferry up --dry-run`: what would be started, as text; nothing is fetched, bound or run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inferry.cli.engines_choice import choose_from_file
from inferry.cli.engines_forms import ProcessForm, process_form
from inferry.core.config_file import LoadedFile
from inferry.core.deployment import ManagedDeployment
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.remote_engines import OpenAIDeployment
from inferry.engines.shell_text import comment, process_text

PORT_SHOWN = 20_001
"""Where the first replica is shown to listen. The real ones are free ports, chosen when each is started."""


def dry_run_text(file: Path, loaded: LoadedFile, gateway_port: int | None, environ: Mapping[str, str]) -> str:
    """Each replica's command, environment without what may be secret, and port. Raises ConfigError as `inferry up` would, but
    not for programs that are missing here: the command is then the one of the newest known version, and says so."""
    gateway = loaded.config.gateway
    parts = [
        comment(
            (
                f"Dry run of {file}: nothing is started.",
                f"The gateway would listen on {gateway.host}:{gateway.port if gateway_port is None else gateway_port}. "
                f"Ports from {PORT_SHOWN} on stand for those that are free at the start.",
            )
        )
    ]
    port = PORT_SHOWN
    for name, deployment in loaded.config.deployments.items():
        if deployment.runs_elsewhere or isinstance(deployment, OpenAIDeployment):
            parts.append(comment((f"{name}: run by others; nothing to start",)))
            continue
        for number in range(deployment.replicas + deployment.standby):
            parts.append(_replica(file, name, deployment, number, port, environ))
            port += 1
    return "\n".join(parts)


def _replica(
    file: Path, name: str, deployment: ManagedDeployment, number: int, port: int, environ: Mapping[str, str]
) -> str:
    role = " (standby)" if number >= deployment.replicas else ""
    title = f"{name}-{number}{role}: {deployment.engine}, port {port}"
    if isinstance(deployment, SimulatedDeployment):
        return comment((title, "The simulated engine comes with Inferry and has no command of its own."))
    choice = choose_from_file(file, name, environ)
    folder = Path("run") / f"{name}-{number}"
    form: ProcessForm = process_form(choice, port, folder, environ, number)
    # Any value that people wrote under `env` may be a token or a password, whether it stands there or comes from outside.
    hidden = choice.hidden_env | frozenset(deployment.env)
    return comment((title, *form.notes)) + process_text(form.command, folder, hidden)
