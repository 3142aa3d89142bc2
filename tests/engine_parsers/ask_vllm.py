"""Runs with the Python of an environment that has vLLM, and asks the parser of `vllm serve`. Starts no engine.

python ask_vllm.py table                       # its flags, as JSON
python ask_vllm.py accept < argvs.json         # for each list of arguments after `vllm serve`: null, or why not
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from parser_flags import flags_of


def serve_parser():  # type: ignore[no-untyped-def]
    """The parser of `vllm serve`, which has moved twice."""
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:
        from vllm.utils import FlexibleArgumentParser
    return make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))


def complaint(parser, args: list[str]) -> str | None:  # type: ignore[no-untyped-def]
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
    asked = serve_parser()
    if sys.argv[1] == "table":
        answer: object = flags_of(asked)
    else:
        answer = [complaint(asked, args) for args in json.load(sys.stdin)]
    # vLLM's logging writes to stdout too: the answer is the last line.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
