"""Runs with a Python that can import SGLang's server arguments, and asks their parser. Starts no engine.

SGLang's wheel wants CUDA to run, but its arguments can be read on any machine with torch.

    python ask_sglang.py table                     # its flags, as JSON
    python ask_sglang.py accept < argvs.json       # for each list of arguments after `sglang serve`: what its parser
                                                   # made of it, {"api_key": ...}, or {"error": why not}
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def server_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sglang serve")
    importlib.import_module("sglang.srt.server_args").ServerArgs.add_cli_args(parser)
    return parser


def merged(parser: argparse.ArgumentParser, args: list[str]) -> Any:
    """The arguments with those of their `--config` file, as SGLang's own start puts them together."""
    if "--config" not in args:
        return args
    merger: Any
    try:
        merger = importlib.import_module("sglang.srt.utils.server_args_config_parser")
    except ImportError:  # where older versions have it
        merger = importlib.import_module("sglang.srt.server_args_config_parser")
    return merger.ConfigArgumentMerger(parser).merge_config_with_args(args)


def reading(parser: argparse.ArgumentParser, args: list[str]) -> dict[str, str | None]:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = parser.parse_args(merged(parser, args))
    except SystemExit:
        return {"error": errors.getvalue()[-2000:]}
    except ValueError as error:
        return {"error": str(error)}
    return {"api_key": parsed.api_key}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    asked = server_parser()
    if sys.argv[1] == "table":
        answer: object = importlib.import_module("parser_flags").flags_of(asked)
    else:
        answer = [reading(asked, args) for args in json.load(sys.stdin)]
    # Imports may print to stdout too: the answer is the last line.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
