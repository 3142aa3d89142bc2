"""`inferry engines probe URL`: which engine answers there, and what it can do."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.key_variable import bearer_headers
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    import httpx

    from inferry.engines.capability_probe import Feature
    from inferry.engines.engine_identity import Identity, Question, Reply

KEY_VARIABLE = "INFERRY_ENGINE_KEY"
_BODY_BYTES_MAX = 1024 * 1024
_MARKS = {"yes": "✓", "no": "✗", "unclear": "?"}


def probe(
    url: Annotated[str, typer.Argument(metavar="URL", help="As http://127.0.0.1:8000, with or without /v1.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="The model to ask. Left out: the first that it lists.", show_default=False
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=600, help="Seconds for each request.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Find out which engine answers at a URL and what it can do, by some twenty tiny requests.

    A key, if it wants one, comes in INFERRY_ENGINE_KEY.
    """
    import httpx

    from inferry.engines import capability_probe
    from inferry.engines.engine_identity import identify

    base = _base_of(url)
    headers = bearer_headers(os.environ, KEY_VARIABLE)
    with httpx.Client(trust_env=False, timeout=timeout_s, headers=headers) as client:

        def ask(question: Question) -> Reply:
            return _ask(client, base + question.path, question)

        who: Identity = capability_probe.ask_all(identify(), ask)
        _check_answers(ask, base, who, has_key=bool(headers))
        name = model or (who.models[0] if who.models else None)
        if name is None:
            raise ConfigError(f"{base} lists no models: say which one to ask, with --model NAME.")
        # Servers also take names that they don't list: short ones, those of adapters.
        if name not in who.models and capability_probe.ask_all(capability_probe.lacks_model(name), ask):
            raise ConfigError(
                f"{base}: the model '{name}' does not exist there.{did_you_mean(name, who.models)}"
            )
        features: list[Feature] = capability_probe.ask_all(capability_probe.probe(name), ask)
    typer.echo(_as_json(base, who, name, features) if as_json else _as_text(base, who, name, features))


def _base_of(url: str) -> str:
    from inferry.core.endpoint_urls import split_endpoint

    trimmed = url.rstrip("/").removesuffix("/v1")
    try:
        split_endpoint(f"{trimmed}/v1")
    except ValueError as error:
        raise ConfigError(f"URL: {error}") from None
    return trimmed


def _ask(client: httpx.Client, url: str, question: Question) -> Reply:
    import httpx

    from inferry.engines.engine_identity import Reply

    method = "GET" if question.body is None else "POST"
    try:
        with client.stream(method, url, json=question.body) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) >= _BODY_BYTES_MAX:
                    break
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status_code, bytes(body), headers)
    except httpx.TimeoutException:
        return Reply(0, b"no answer in time")
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        return Reply(0, (str(error) or type(error).__name__).encode())


def _check_answers(ask: object, base: str, who: Identity, *, has_key: bool) -> None:
    from inferry.engines.engine_identity import Question

    assert callable(ask)
    if who.wants_key:
        which = f"refuses the key in {KEY_VARIABLE}" if has_key else f"wants a key: set {KEY_VARIABLE}"
        raise ConfigError(f"{base} {which}.")
    if who.engine == "unknown" and not who.models:
        reply = ask(Question("/v1/models"))
        if reply.status == 0:
            raise ConfigError(
                f"{base} gives no answer: {reply.body.decode(errors='replace')}. Is it the right URL?"
            )


def _as_text(base: str, who: Identity, model: str, features: list[Feature]) -> str:
    engine = who.engine if who.version is None else f"{who.engine} {who.version}"
    simulated = " (simulated)" if who.simulated and who.engine != "simulated" else ""
    lines = [f"{base}: {engine}{simulated}, asked for the model {model}"]
    width = max(len(each.name) for each in features)
    lines += [f"  {_MARKS[each.can]} {each.name:<{width}}  {each.detail}".rstrip() for each in features]
    return "\n".join(lines)


def _as_json(base: str, who: Identity, model: str, features: list[Feature]) -> str:
    return json.dumps(
        {
            "url": base,
            "engine": who.engine,
            "version": who.version,
            "simulated": who.simulated,
            "models": list(who.models),
            "model": model,
            "features": [
                {"name": each.name, "can": each.can.value, "detail": each.detail} for each in features
            ],
        },
        indent=2,
        ensure_ascii=False,
    )
