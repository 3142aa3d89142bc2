"""Whom `inferry bench` asks: a URL as it is written, or a deployment of the Inferry that runs here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.key_variable import bearer_headers
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.core.suggest import did_you_mean

OUR_KEYS = ("INFERRY_KEY", "INFERRY_API_KEY")
KEYS = (*OUR_KEYS, "OPENAI_API_KEY")
LOOK_TIMEOUT_S = 10.0
LISTED_MAX = 20


@dataclass(frozen=True, slots=True)
class Replica:
    """One of a deployment's: where its engine listens, and its process here, if it has one."""

    name: str
    url: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Where requests go, under which name, and who answers them in the end."""

    base_url: str
    model: str
    key_variable: str | None
    deployment: str | None = None
    """None: a URL, of which nothing more is known."""
    socket: str | None = None
    """The control socket of the Inferry that has the deployment."""
    replicas: tuple[Replica, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """That carry the key, from the environment; nowhere else is it kept."""
        return bearer_headers(os.environ, self.key_variable) if self.key_variable else {}


def resolve(target: str, api: str, model: str | None, key_variable: str | None, port: int | None) -> Asked:
    """Looks at who is there. Raises ConfigError that names the way out."""
    if "://" in target or ":" in target or "/" in target:
        base_url = checked_url(target, api)
        variable = _variable(key_variable, KEYS)
        return Asked(base_url, model or only_model(base_url, variable), variable)
    return _deployment(target, model, key_variable, port)


def checked_url(text: str, api: str, *, name: str = "TARGET") -> str:
    """Without a slash at its end. `name`: of what it was given as."""
    url = text.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{name} {text}: begin it with http:// or https://, for instance http://{url}")
    path = url.partition("://")[2].partition("/")[2]
    if not path and api != "tgi":
        raise ConfigError(f"{name} {text}: a base URL has the path of its API. Did you mean {url}/v1?")
    return url


def only_model(base_url: str, variable: str | None) -> str:
    """The one that GET /models lists."""
    import httpx

    headers = bearer_headers(os.environ, variable) if variable else {}
    try:
        answer = httpx.get(f"{base_url}/models", headers=headers, timeout=LOOK_TIMEOUT_S)
        if answer.status_code in (401, 403):
            raise ConfigError(
                f"{base_url} wants an API key ({answer.status_code}). Put it into an environment variable, "
                f"{' or '.join(KEYS)}, or name yours with --key-variable."
            )
        names = [str(each["id"]) for each in answer.json()["data"]] if answer.is_success else []
    except httpx.ConnectError as error:
        raise ConfigError(f"Nobody listens at {base_url} ({error}).") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{base_url} lists no models ({error}). Name one with --model.") from error
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(f"{base_url}/models lists none ({answer.status_code}). Name one with --model.")
    shown = ", ".join(names[:LISTED_MAX]) + (", ..." if len(names) > LISTED_MAX else "")
    raise ConfigError(f"{base_url} has several models: {shown}. Name one with --model.")


def _deployment(name: str, model: str | None, key_variable: str | None, port: int | None) -> Asked:
    from inferry.admin.client import ControlClient
    from inferry.admin.run_record import find

    record = find(inferry_home(os.environ), port, DEFAULT_FILE)
    status = ControlClient(record).status()
    for deployment in status.deployments:
        if deployment.name == name:
            replicas = tuple(
                Replica(each.id, each.url, each.pid) for each in deployment.replicas if each.url is not None
            )
            base_url, variable = f"{status.url}/v1", _variable(key_variable, OUR_KEYS)
            return Asked(base_url, model or name, variable, name, record.socket, replicas)
    known = [each.name for each in status.deployments]
    raise ConfigError(
        f"TARGET {name}: no deployment of {status.url} has that name.{did_you_mean(name, known)} "
        "For a server elsewhere, write its URL."
    )


def _variable(
    given: str | None, usual: tuple[str, ...], environ: Mapping[str, str] = os.environ
) -> str | None:
    """The name of the variable that holds the key; None: there is none."""
    if given is not None:
        if not environ.get(given, "").strip():
            raise ConfigError(
                f"--key-variable {given}: the environment has no such variable, or it is empty."
            )
        return given
    return next((name for name in usual if environ.get(name, "").strip()), None)
