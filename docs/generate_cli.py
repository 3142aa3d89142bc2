"""The generated part of docs/cli.md: all verbs with their arguments and options, from the command line's own definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from inferry.cli.main import app


def reference() -> str:
    """Each verb that `--help` shows, in its order."""
    command: Any = typer.main.get_command(app)
    return "\n\n".join(_verb(path, each) for path, each in _verbs(command, ()))


def _verbs(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in command.commands.items():
        if each.hidden:
            continue
        if hasattr(each, "commands"):
            yield from _verbs(each, (*path, name))
        else:
            yield (*path, name), each


def _verb(path: tuple[str, ...], command: Any) -> str:
    name = " ".join(("inferry", *path))
    context = command.make_context(name, [], resilient_parsing=True)
    usage = command.get_usage(context).partition(": ")[2]
    parts = [f"### `{name}`", _prose(command.help or ""), f"```text\n{usage}\n```"]
    shown = [each for each in command.get_params(context) if not each.hidden and each.name != "help"]
    for title, kind in (("Argument", "argument"), ("Option", "option")):
        rows = [each.get_help_record(context) for each in shown if each.param_type_name == kind]
        if rows:
            parts.append("\n".join([f"| {title} | |", "|---|---|", *(_row(*row) for row in rows)]))
    return "\n\n".join(parts)


def _row(words: str, about: str) -> str:
    return f"| `{_cell(words)}` | {_prose(_cell(about))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _prose(text: str) -> str:
    """Help text as Markdown: without rich's marks, and with nothing that a browser takes for a tag."""
    quoted = text.replace("\b", "").replace("\f", "").strip()
    return quoted.replace("<", "&lt;").replace("*", r"\*")
