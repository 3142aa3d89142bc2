"""Whom the batch is for: is there somebody at the URL who takes the key, and which models are listed there?"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import httpx
import msgspec

from inferry.batch.record import error_text
from inferry.core.errors import ConfigError
from inferry.core.shown_url import shown_url

ANSWER_S = 30.0


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def listed_models(
    client: httpx.AsyncClient, base_url: str, headers: Mapping[str, str], key_variable: str
) -> frozenset[str] | None:
    """The models that the service lists; None: it doesn't list any, which is no fault.

    Raises ConfigError where nobody listens or the key is refused, before a batch waits for that to pass.
    """
    shown = shown_url(base_url)
    try:
        answer = await client.get(f"{base_url}/v1/models", headers=dict(headers), timeout=ANSWER_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise ConfigError(
                f"The certificate of {shown} is not trusted here ({error}). Name the host that it is for with --url, "
                "and the authority that signed it, if it is your own, in SSL_CERT_FILE."
            ) from error
        raise ConfigError(f"Nobody answers at {shown} ({error or type(error).__name__}).") from error
    if answer.status_code == 401:
        raise ConfigError(key_refused(error_text(answer.content), key_variable))
    try:
        return frozenset(model.id for model in msgspec.json.decode(answer.content, type=_Models).data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def key_refused(words: str, key_variable: str) -> str:
    """What to do about a 401."""
    return f"{words} Put the key into the environment variable {key_variable}."
