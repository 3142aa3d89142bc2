"""Where engines are that others run, and the key that they ask for: how a file may say it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationInfo

from inferry.core.section import is_reference

PRINTABLE = re.compile(r"[!-~]*")


def is_v1(url: str) -> bool:
    """Whether a base URL names the API with `/v1` in its paths."""
    return url.rstrip("/").endswith("/v1")


def split_endpoint(url: str, needs_v1: bool = True) -> tuple[bool, str, int, str]:
    """(tls, host, port, base path without `/v1`) of an OpenAI base URL; raises ValueError.

    Not `needs_v1`: the URL of an Azure resource will do too, with or without the `/openai` at its end.
    """
    tls, host, port, path = _split(url, "http://HOST:PORT/v1")
    if not path.endswith("/v1"):
        if needs_v1:
            azure = " (at Azure without it: set 'api_version')" if ".azure." in url else ""
            raise ValueError(f"'{url}' must end in /v1{azure}")
        if "/deployments/" in f"{path}/":
            raise ValueError(
                f"'{url}' names a deployment: end it before /openai, and put its name into 'model'"
            )
        path = path.removesuffix("/openai")
    return tls, host, port, path.removesuffix("/v1")


def split_engine_url(url: str) -> tuple[bool, str, int, str]:
    """(tls, host, port, base path) of an engine with all of its own paths below; raises ValueError."""
    tls, host, port, path = _split(url, "http://HOST:PORT")
    if path.endswith("/v1"):
        raise ValueError(
            f"'{url}' must not end in /v1: the engine is asked for its health and its metrics, too, which are beside it"
        )
    return tls, host, port, path


def _split(url: str, form: str) -> tuple[bool, str, int, str]:
    # First, and without the URL: what stands in these parts may be a secret.
    if set("@?#") & set(url):
        raise ValueError("a base URL has no user, query or fragment: put a key into 'api_key'")
    if not PRINTABLE.fullmatch(url):
        raise ValueError("a base URL has no spaces and only ASCII signs: write others as %XX")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"'{url}' is not a base URL: write {form}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not a base URL: write {form}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"'{url}' has a port that is not 1 to 65535")
    tls = parts.scheme == "https"
    if port is None:
        port = 443 if tls else 80
    return tls, parts.hostname, port, parts.path.rstrip("/")


def key_by_reference(value: object, info: ValidationInfo) -> object:
    """`value`, a key; raises ValueError if it stands in the file itself."""
    if value is not None and not is_reference(value, info):
        raise ValueError("a key in the file would be stored in clear: write ${NAME} and set NAME outside")
    return value


def key_for_a_header(value: SecretStr | None) -> SecretStr | None:
    """`value`; raises ValueError for one that no header can carry."""
    if value is not None and not (key := value.get_secret_value()):
        raise ValueError("the key is empty: set the variable, or drop 'api_key' if none is asked for")
    if value is not None and not PRINTABLE.fullmatch(key):
        raise ValueError("the key holds a space, a line break or a sign that no HTTP header can carry")
    return value
