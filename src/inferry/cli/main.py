"""The `inferry` command: its verbs, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from inferry import __version__
from inferry.cli import chat, config, down, logs, models, status, up
from inferry.core.errors import InferryError

EXIT_ERROR = 1
EXIT_INTERNAL = 70  # EX_SOFTWARE
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="inferry",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve LLMs: real engines, one OpenAI-compatible gateway in front, kept alive.\n\n"
    "First steps: inferry init, then inferry up.",
)
app.command("init")(config.init)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("chat")(chat.chat)
app.command("logs")(logs.logs)
app.command("down")(down.down)
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")


@app.command()
def version(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the version."""
    typer.echo(f'{{"version": "{__version__}"}}' if as_json else f"inferry {__version__}")


def _show_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; never shows a traceback unless INFERRY_DEBUG is set."""
    try:
        app()
    except InferryError as error:
        _complain(error.message)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (`| head`) left: silence, and no second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except Exception as error:  # the last border: a person must not meet a traceback
        if os.environ.get("INFERRY_DEBUG"):
            raise
        _complain(
            f"This is a fault in Inferry: {type(error).__name__}: {error}\n"
            "Run it again with INFERRY_DEBUG=1 for the details, and please report them."
        )
        sys.exit(EXIT_INTERNAL)


def _complain(message: str) -> None:
    red, plain = (
        ("\033[31m", "\033[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    )
    sys.stderr.write(f"{red}error:{plain} {message}\n")
