"""Asks a server how many tokens a prompt has: by its /tokenize, and by the usage that it states for a small request."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
from msgspec.structs import replace

from inferry.bench.judging import encode, read
from inferry.bench.plan import Target
from inferry.bench.records import Ask, Raw
from inferry.core.errors import BadBenchPlan

_TOKENIZE_FORMS: tuple[tuple[str, dict[str, object]], ...] = (
    ("prompt", {}),  # vLLM, SGLang
    ("content", {"add_special": True}),  # llama.cpp: with BOS, as its completions have it
    ("inputs", {}),  # TGI
)
"""Where the text stands in the request, and what else must be in it."""
_PROBE_TEXT = "the"
_CONNECT_S = 5.0
"""Longest for a connection: who takes longer is no server to be measured."""


class CountFailed(Exception):
    """The server does not count; the text says why."""


class ServerAway(CountFailed):
    """It does not answer: another question would only wait as long again."""


class ServerCount:
    """One server, asked one thing after the other. Blocks: not for an event loop."""

    def __init__(
        self, target: Target, *, timeout_s: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        # The shortest answer there is: only what it says of the prompt counts.
        self._target = replace(target, stream=False, ignore_eos=False)
        self._tokenize_form: tuple[str, dict[str, object]] | None = None
        key = "" if target.key_variable is None else os.environ.get(target.key_variable, "").strip()
        try:
            self._client = httpx.Client(
                headers=_key_headers(target, key) if key else {},
                timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
                transport=transport,
                trust_env=False,  # proxies are not for what is measured
                # A dozen requests need no speed, and llama.cpp closes connections without saying so before.
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        except UnicodeEncodeError:  # it would show the key
            raise BadBenchPlan(
                f"the key in {target.key_variable} has signs that no HTTP header can carry: set it anew",
                param="key_variable",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    # --- /tokenize ------------------------------------------------------------------------------------

    def has_tokenize(self) -> bool:
        """Looks for the form that this server's /tokenize understands."""
        for form in _TOKENIZE_FORMS:
            try:
                if self._tokens_by(form, _PROBE_TEXT):
                    self._tokenize_form = form
                    return True
            except ServerAway:
                return False
            except CountFailed:
                continue
        return False

    def tokenize(self, text: str) -> int:
        """Tokens of a text, perhaps with a BOS. After `has_tokenize`. Raises CountFailed."""
        assert self._tokenize_form is not None, "has_tokenize was not asked, or said no"
        return self._tokens_by(self._tokenize_form, text)

    def _tokens_by(self, form: tuple[str, dict[str, object]], text: str) -> int:
        field, more = form
        url = self._target.base_url.removesuffix("/v1") + "/tokenize"
        body = msgspec.json.encode({"model": self._target.model, field: text, **more})
        tokens = _json(self._post(url, body, {}))
        if isinstance(tokens, dict):
            tokens = tokens.get("tokens")
        if not isinstance(tokens, list):
            raise CountFailed("the server's /tokenize answers no tokens")
        return len(tokens)

    # --- usage ----------------------------------------------------------------------------------------

    def usage_of(self, text: str) -> int:
        """Tokens of a whole prompt that has this text, as the API itself counts it. Raises CountFailed."""
        return self.usage(Ask(number=0, due_s=None, text=text))

    def usage(self, ask: Ask) -> int:
        """The same of any prompt. Sends a request for one token. Raises CountFailed."""
        ask = replace(ask, output_tokens=None if self._target.api == "embeddings" else 1)
        encoded = encode(self._target, ask)
        body = self._post(self._target.base_url + encoded.path, encoded.body, dict(encoded.headers))
        raw = Raw(
            number=0,
            due_s=0.0,
            sent_s=0.0,
            status=200,
            content_type="application/json",
            pieces=((0.0, body),),
            first_byte_s=0.0,
            ended_s=0.0,
            whole=True,
        )
        tokens = read(self._target, ask, raw, warmup=False).input_tokens
        if not tokens:
            raise CountFailed("the server does not say how many tokens a prompt has")
        return tokens

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> bytes:
        try:
            answer = self._client.post(
                url, content=body, headers={"content-type": "application/json", **headers}
            )
        except httpx.HTTPError as error:
            raise ServerAway(f"{url} can't be asked: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise CountFailed(f"{url} answers {answer.status_code}")
        return answer.content


def _key_headers(target: Target, key: str) -> dict[str, str]:
    """Anthropic's own service reads the second, engines with its API the first."""
    bearer = {"authorization": f"Bearer {key}"}
    return {**bearer, "x-api-key": key} if target.api == "messages" else bearer


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CountFailed("the server's /tokenize answers no JSON") from error
