"""Runs with the Python of an environment that has vLLM, and asks the parser of `vllm serve`. Starts no engine.

python ask_vllm.py table                       # its flags, as JSON
python ask_vllm.py accept < argvs.json         # for each list of arguments after `vllm serve`: null, or why not
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def first_of(*modules: str) -> Any:
    """The first module that this version has: these have moved."""
    for name in modules[:-1]:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return importlib.import_module(modules[-1])


def serve_parser() -> Any:
    """The parser of `vllm serve`."""
    arguments = first_of("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
    parsers = first_of("vllm.utils.argparse_utils", "vllm.utils")
    return arguments.make_arg_parser(parsers.FlexibleArgumentParser(prog="vllm serve"))


def complaint(parser: Any, args: list[str]) -> str | None:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parser.parse_args(args)
    except SystemExit:
        return errors.getvalue()[-2000:]
    except ValueError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    asked = serve_parser()
    if sys.argv[1] == "table":
        answer: object = importlib.import_module("parser_flags").flags_of(asked)
    else:
        answer = [complaint(asked, args) for args in json.load(sys.stdin)]
    # vLLM's logging writes to stdout too: the answer is the last line.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
