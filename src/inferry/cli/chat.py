"""`inferry chat`: talk to a deployment in the terminal, answers as they come."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.cli.key_variable import bearer_headers
from inferry.core.errors import ConfigError, EngineError
from inferry.core.home import inferry_home

KEY_VARIABLE = "INFERRY_KEY"


def chat(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="Ask this and end. Without: a conversation.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The deployment to talk to.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t", min=0)] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1)] = None,
    port: Port = None,
    url: Annotated[str | None, typer.Option("--url", help="Any OpenAI base URL, ending in /v1.")] = None,
) -> None:
    """Talk to a served model, with the API key in INFERRY_KEY if one is asked for. Ctrl-C stops an answer, Ctrl-D
    ends the conversation."""
    if prompt is not None and not prompt.strip():
        raise ConfigError("The question is empty. Leave it out for a conversation.")
    base_url = _checked_url(url) if url is not None else _local_url(port)
    settings: dict[str, Any] = {"model": model or _first_model(base_url), "stream": True}
    if temperature is not None:
        settings["temperature"] = temperature
    if max_tokens is not None:
        settings["max_tokens"] = max_tokens
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    if prompt is None and sys.stdin.isatty():
        typer.echo(f"{settings['model']} at {base_url}. Ctrl-D ends.")
    while True:
        question = prompt if prompt is not None else _ask()
        if question is None:
            return
        if not question.strip():
            continue
        messages.append({"role": "user", "content": question})
        if len(messages) > 2 and not sys.stdin.isatty():
            typer.echo()  # several answers in a row need something between them
        answer, notes = "", list[str]()
        try:
            for piece in _stream(base_url, {**settings, "messages": messages}, notes):
                sys.stdout.write(piece)
                sys.stdout.flush()
                answer += piece
        except KeyboardInterrupt:
            if prompt is not None:
                raise
        typer.echo()
        for note in notes:
            typer.echo(note, err=True)
        messages.append({"role": "assistant", "content": answer})
        if prompt is not None:
            return


def _checked_url(url: str) -> str:
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {url}: begin it with http:// or https://, for instance http://{url}")
    if not url.endswith("/v1"):
        raise ConfigError(f"--url {url}: a base URL ends in /v1. Did you mean {url}/v1?")
    return url


def _local_url(port: int | None) -> str:
    from inferry.admin.run_record import find

    return find(inferry_home(os.environ), port, DEFAULT_FILE).url + "/v1"


def _ask() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        if sys.stdin.isatty():
            typer.echo()
        return None


def _headers() -> dict[str, str]:
    """From the environment, not from an option: command lines are seen by others."""
    return bearer_headers(os.environ, KEY_VARIABLE)


def _refused(text: str) -> ConfigError:
    return ConfigError(f"{_error_text(text)} Put the key into the environment variable {KEY_VARIABLE}.")


def _no_connection(base_url: str, error: Exception) -> ConfigError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigError(
            f"The certificate of {base_url} is not trusted here ({error}). Name the host that it is for with --url, "
            "and the authority that signed it, if it is your own, in SSL_CERT_FILE."
        )
    return ConfigError(f"Nobody listens at {base_url} ({error}).")


def _first_model(base_url: str) -> str:
    import httpx

    try:
        answer = httpx.get(f"{base_url}/models", headers=_headers(), timeout=10.0)
        if answer.status_code == 401:
            raise _refused(answer.text)
        if answer.is_error:
            raise ConfigError(
                f"{base_url}/models answers {answer.status_code}. Correct --url, or name a model with --model."
            )
        return str(answer.json()["data"][0]["id"])
    except httpx.ConnectError as error:
        raise _no_connection(base_url, error) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{base_url} lists no models ({error}). Name one with --model.") from error


def _stream(base_url: str, body: dict[str, Any], notes: list[str]) -> Iterator[str]:
    """The pieces of one answer's text, and into `notes` what a person should know of it; raises EngineError with the server's own words."""
    import httpx

    timeout = httpx.Timeout(10.0, read=600.0)
    try:
        with httpx.stream(
            "POST", f"{base_url}/chat/completions", json=body, headers=_headers(), timeout=timeout
        ) as answer:
            if answer.status_code == 401:
                answer.read()
                raise _refused(answer.text)
            if answer.status_code != 200:
                answer.read()
                raise EngineError(_error_text(answer.text))
            for line in answer.iter_lines():
                if not line.startswith("data:") or line[5:].strip() == "[DONE]":
                    continue
                if '"finish_reason":"length"' in line.replace(" ", ""):
                    notes.append("(cut: the answer has reached its limit of tokens)")
                yield _text_of(line[5:])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise EngineError(f"The answer from {base_url} broke off: {error}") from error


def _text_of(event_text: str) -> str:
    """The piece of text in one event; raises EngineError for an error event or one that is no chat chunk."""
    event = json.loads(event_text)
    try:
        if event.get("error"):
            raise EngineError(_error_text(event_text))
        deltas = [choice.get("delta") or {} for choice in event.get("choices") or []]
        return "".join(delta.get("content") or "" for delta in deltas)
    except (AttributeError, TypeError) as error:
        raise EngineError(f"This is no chat answer: {event_text.strip()[:200]}") from error


def _error_text(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return text[:500]
