"""How to reach a cluster: from inside by the pod's service account, from outside by a kubeconfig file.

Formats: kubernetes.io/docs/reference/config-api/kubeconfig.v1 and "Accessing the Kubernetes API from a Pod".
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inferry.core.errors import ConfigError
from inferry.core.kubernetes_settings import KubernetesSettings

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_UNSUPPORTED = {
    "exec": "a program that makes tokens",
    "auth-provider": "an auth-provider, which Kubernetes has given up",
    "username": "a user name and password",
}
"""Ways to prove who one is that are in kubeconfig files and not here."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is, and how to prove who we are."""

    url: str
    namespace: str
    token: Callable[[], str | None] = field(repr=False)
    """Read anew for each call: the kubelet changes a service account's token every hour."""
    tls: ssl.SSLContext | bool = True
    inside: bool = False
    """By a service account: we are a pod ourselves."""


def find_access(
    settings: KubernetesSettings, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
) -> Access:
    """The cluster that the file means. Raises ConfigError with the way out when there is none."""
    host = environ.get("KUBERNETES_SERVICE_HOST")
    if settings.kubeconfig is None and host and (service_account / "token").is_file():
        return _from_inside(settings, host, environ.get("KUBERNETES_SERVICE_PORT", "443"), service_account)
    if settings.kubeconfig is not None:
        path = settings.kubeconfig.expanduser()
    elif named := environ.get("KUBECONFIG"):
        if ":" in named:
            raise ConfigError(
                "KUBECONFIG names several files, which are not merged here: set runtime.kubeconfig to one of them, "
                "or write them into one with 'kubectl config view --flatten'"
            )
        path = Path(named)
    else:
        path = Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"
    return read_kubeconfig(path, settings)


def _from_inside(settings: KubernetesSettings, host: str, port: str, folder: Path) -> Access:
    namespace = settings.namespace or _text(folder / "namespace") or "default"
    shown = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"runtime: can't read the cluster's certificate {folder / 'ca.crt'}: {error}"
        ) from error
    return Access(f"https://{shown}:{port}", namespace, lambda: _text(folder / "token"), tls, inside=True)


def read_kubeconfig(path: Path, settings: KubernetesSettings) -> Access:
    """By the settings' context, or the file's current one. Raises ConfigError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"runtime: no kubeconfig at {path}, and this is no pod: set runtime.kubeconfig or KUBECONFIG"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"runtime: can't read the kubeconfig {path}: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"runtime: {path} is no kubeconfig: it has no keys")
    name = settings.context or tree.get("current-context")
    if not name:
        raise ConfigError(f"runtime: {path} has no current-context: set runtime.context")
    context = _named(tree, "contexts", "context", name, path)
    cluster = _named(tree, "clusters", "cluster", str(context.get("cluster")), path)
    user = _named(tree, "users", "user", str(context["user"]), path) if context.get("user") else {}
    for key, words in _UNSUPPORTED.items():
        if key in user:
            raise ConfigError(
                f"runtime: the user of context '{name}' in {path} has {words} ({key}), which is not supported: use a "
                "service account's token ('kubectl create token NAME', as `token` or `tokenFile`) or a client certificate"
            )
    url = cluster.get("server")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise ConfigError(f"runtime: the cluster of context '{name}' in {path} has no 'server' URL: {url!r}")
    namespace = settings.namespace or context.get("namespace") or "default"
    tls = _tls(cluster, user, path) if url.startswith("https://") else True
    return Access(url.rstrip("/"), str(namespace), _token(user, path), tls)


def _named(tree: Mapping[str, Any], group: str, key: str, name: str, path: Path) -> Mapping[str, Any]:
    entries = [each for each in tree.get(group) or () if isinstance(each, dict)]
    for entry in entries:
        if entry.get("name") == name and isinstance(entry.get(key), dict):
            found: Mapping[str, Any] = entry[key]
            return found
    known = ", ".join(str(each.get("name")) for each in entries) or "none"
    raise ConfigError(f"runtime: {path} has no {key} '{name}' (it has: {known})")


def _token(user: Mapping[str, Any], path: Path) -> Callable[[], str | None]:
    if (file := user.get("tokenFile")) is not None:
        token_path = path.parent / str(file)
        return lambda: _text(token_path)
    token = user.get("token")
    return lambda: None if token is None else str(token)


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], path: Path) -> ssl.SSLContext:
    try:
        ca = _pem(cluster, "certificate-authority", path)
        context = ssl.create_default_context(cadata=ca)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _pem(user, "client-certificate", path), _pem(user, "client-key", path)
        if certificate is not None and key is not None:
            # Python reads a client's certificate from a file only; 0600, and gone at once.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
                both.write(f"{certificate}\n{key}\n")
                both.flush()
                context.load_cert_chain(both.name)
    except (OSError, ssl.SSLError, binascii.Error, ValueError) as error:
        raise ConfigError(f"runtime: a certificate or key in {path} can't be used: {error}") from error
    return context


def _pem(section: Mapping[str, Any], key: str, path: Path) -> str | None:
    """Either in the file itself, as base64, or a path beside it."""
    if (data := section.get(f"{key}-data")) is not None:
        return base64.b64decode(str(data), validate=True).decode("ascii")
    file = section.get(key)
    return None if file is None else (path.parent / str(file)).read_text(encoding="ascii")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
