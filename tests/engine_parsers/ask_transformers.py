"""Runs with the Python of an environment that has transformers, and asks the parser of `transformers serve`.

Starts no engine: the parser is typer's, and what it would call is not called.

    python ask_transformers.py table                  # its flags, as JSON
    python ask_transformers.py accept < argvs.json    # for each list of arguments after `transformers serve`: null, or why not
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def serve_command() -> Any:
    return importlib.import_module("transformers.cli.transformers").app.commands["serve"]


def flags_of(command: Any) -> dict[str, str]:
    """In the form of src/inferry/engines/tables: each with what follows it."""
    flags = {}
    for each in command.params:
        if each.param_type_name != "option" or each.hidden or "--help" in each.opts:
            continue
        for name in (*each.opts, *each.secondary_opts):
            flags[name] = "switch" if each.is_flag else "value"
    return dict(sorted(flags.items()))


def complaint(command: Any, args: list[str]) -> str | None:
    try:
        command.make_context("serve", list(args))
    except Exception as error:  # noqa: BLE001  typer brings its own click, whose errors have no other base
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    asked = serve_command()
    if sys.argv[1] == "table":
        answer: object = flags_of(asked)
    else:
        answer = [complaint(asked, args) for args in json.load(sys.stdin)]
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
