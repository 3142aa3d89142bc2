"""One option per limit, made from core/limits.py: a limit added there is an option here without another line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from inferry.core.errors import BadKeySetting
from inferry.core.limits import Limits

LIFTED = "none"


def option_of(field: str) -> str:
    """`--requests-per-minute` for `requests_per_minute`."""
    return "--" + field.replace("_", "-")


def with_limits(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for each limit; it gets those that were given as one `limits`."""

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        texts = {name: given.pop(name) for name in Limits.model_fields}
        verb(**given, limits=_limits({name: text for name, text in texts.items() if text is not None}))

    signature = inspect.signature(verb, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "limits"]
    limits = [_parameter(name, field.description or "") for name, field in Limits.model_fields.items()]
    # Typer reads the signature, and wherever it can the annotations: the two must agree.
    run.__signature__ = signature.replace(parameters=own + limits)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in own + limits}
    del run.__dict__["__wrapped__"]
    return run


def _parameter(name: str, description: str) -> inspect.Parameter:
    option = typer.Option(
        option_of(name), metavar="N", help=description, rich_help_panel="Limits (a number, or 'none')"
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])


def _limits(texts: dict[str, str]) -> Limits:
    values = {name: None if text == LIFTED else text for name, text in texts.items()}
    try:
        return Limits.model_validate(values)
    except ValidationError as error:
        problems = (
            f"{option_of(str(found['loc'][0]))} {texts[str(found['loc'][0])]}: {found['msg'].lower()}"
            for found in error.errors()
        )
        raise BadKeySetting("\n".join(problems)) from error
