"""Renders a chat with the model's own Jinja template, as transformers' `apply_chat_template` does.

Same environment (trimmed blocks, loop controls, `{% generation %}`), same names (`raise_exception`, `strftime_now`,
`tojson` that escapes nothing), in Jinja's sandbox: a template comes with a model that somebody else made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inferry.core.errors import ConfigError

# `for part in message.content`: such a template reads the parts of a message itself.
_READS_PARTS = re.compile(r"for\s+\w+\s+in\s+\w+(?:\.content\b|\[['\"]content['\"]\])")
_READS_TOOLS = re.compile(r"\btools\b")


class TemplateRefuses(Exception):
    """The template can't render this chat: it says so itself, or it does not know something in it."""


class PromptTemplate:
    """One model's template. Rendering takes some 0.1 ms for a short chat."""

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], now_text: Callable[[str], str]
    ) -> None:
        """`special_tokens`: by name, such as `bos_token`; `now_text`: the time in a strftime layout.

        Raises ConfigError when `source` is no Jinja template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = now_text
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ConfigError(f"the model's chat template is no Jinja template: {error}") from error
        self._special_tokens = dict(special_tokens)
        self.reads_tools = _READS_TOOLS.search(source) is not None
        self._reads_parts = _READS_PARTS.search(source) is not None

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[Any] | None,
        extra: Mapping[str, Any],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt's text. `extra` are the request's `chat_template_kwargs`. Raises TemplateRefuses."""
        if not self._reads_parts:
            messages = [_with_text(message) for message in messages]
        names = {
            **self._special_tokens,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **extra,
        }
        try:
            return self._template.render(names)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise TemplateRefuses(str(error)) from error
        except RecursionError as error:
            raise TemplateRefuses("nested too deeply") from error


def _with_text(message: dict[str, Any]) -> dict[str, Any]:
    """The parts of a message as one text. vLLM and llama.cpp put a line break between two."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": "\n".join(part["text"] for part in content)}


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes < and >, for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 wants a plain set

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
