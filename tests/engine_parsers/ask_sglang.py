"""Runs with a Python that can import SGLang's server arguments, and asks their parser. Starts no engine.

SGLang's wheel wants CUDA to run, but its arguments can be read on any machine with torch.

    python ask_sglang.py table                     # its flags, as JSON
    python ask_sglang.py accept < argvs.json       # for each list of arguments after `sglang serve`: what its parser
                                                   # made of it, {"api_key": ...}, or {"error": why not}
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys

from parser_flags import flags_of


def server_parser():  # type: ignore[no-untyped-def]
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser(prog="sglang serve")
    ServerArgs.add_cli_args(parser)
    return parser


def merged(parser, args: list[str]) -> list[str]:  # type: ignore[no-untyped-def]
    """The arguments with those of their `--config` file, as SGLang's own start puts them together."""
    if "--config" not in args:
        return args
    try:
        from sglang.srt.utils.server_args_config_parser import ConfigArgumentMerger
    except ImportError:
        from sglang.srt.server_args_config_parser import ConfigArgumentMerger
    return ConfigArgumentMerger(parser).merge_config_with_args(args)


def reading(parser, args: list[str]) -> dict[str, str | None]:  # type: ignore[no-untyped-def]
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
    asked = server_parser()
    if sys.argv[1] == "table":
        answer: object = flags_of(asked)
    else:
        answer = [reading(asked, args) for args in json.load(sys.stdin)]
    # Imports may print to stdout too: the answer is the last line.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
