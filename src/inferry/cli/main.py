"""The `inferry` command: its verbs, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from inferry import __version__
from inferry.cli import (
    backup,
    batch,
    bench,
    calibrate,
    chat,
    config,
    dashboard,
    down,
    drain,
    engines,
    engines_install,
    hardware,
    keys,
    ledger,
    load,
    logs,
    lora,
    models,
    models_convert,
    models_show,
    plan,
    reload_verb,
    render,
    restart,
    restore,
    rollout,
    scale,
    simulate,
    status,
    up,
    usage,
)
from inferry.core.errors import InferryError

EXIT_ERROR = 1
EXIT_INTERNAL = 70  # EX_SOFTWARE
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Full or broken disks, and readers that left: the machine's, wherever it is met."""

_OTHER_WORDS = {"start": "up", "serve": "up", "run": "up", "stop": "down", "ps": "status", "ls": "status"}


class _Verbs(TyperGroup):
    """Answers other tools' words with ours; slips of the keyboard are typer's own to set right."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in _OTHER_WORDS:
            ctx.fail(f"There is no '{cmd_name}' here. Did you mean '{_OTHER_WORDS[cmd_name]}'?")
        return found


app = typer.Typer(
    name="inferry",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve LLMs: real engines, one OpenAI-compatible gateway in front, kept alive.\n\n"
    "First steps: inferry init, then inferry up.",
)
app.command("init")(config.init)
app.command("plan")(plan.plan)
app.command("simulate")(simulate.simulate)
app.command("render")(render.render)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("chat")(chat.chat)
app.command("batch")(batch.batch)
app.command("bench")(bench.bench)
app.command("calibrate")(calibrate.calibrate)
app.command("dashboard")(dashboard.dashboard)
app.command("logs")(logs.logs)
app.command("reload")(reload_verb.reload)
app.add_typer(scale.app, name="scale")
app.command("drain")(drain.drain)
app.command("undrain")(drain.undrain)
app.command("restart")(restart.restart)
app.command("rollout")(rollout.rollout)
app.command("load")(load.load)
app.command("unload")(load.unload)
app.add_typer(lora.app, name="lora")
app.command("down")(down.down)
models.app.command("convert")(models_convert.convert)
models.app.command("show")(models_show.show)
app.add_typer(models.app, name="models")
engines.app.command("install")(engines_install.install)
engines.app.command("remove")(engines_install.remove)
app.add_typer(engines.app, name="engines")
app.command("hardware")(hardware.hardware)
app.add_typer(keys.app, name="keys")
app.command("usage")(usage.usage)
app.add_typer(ledger.app, name="ledger")
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
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
    """Run the command line; never shows a traceback unless INFERRY_DEBUG is set. Ctrl-C is for cli/entry.py."""
    try:
        app()
    except Exception as error:  # the last border: a person must not meet a traceback
        cause = _only_cause(error)
        if isinstance(cause, InferryError):
            _complain(cause.message)
            sys.exit(cause.exit_code)
        if isinstance(cause, OSError) and cause.errno in _UNWRITABLE:
            _let_stdout_end()
            if cause.errno != errno.EPIPE:  # a reader that left (`| head`) has seen enough
                _complain(f"{cause.filename or 'The output'} can't be written: {cause.strerror}.")
            sys.exit(EXIT_ERROR)
        if os.environ.get("INFERRY_DEBUG"):
            raise
        _complain(
            f"This is a fault in Inferry: {type(cause).__name__}: {cause}\n"
            "Run it again with INFERRY_DEBUG=1 for the details, and please report them."
        )
        sys.exit(EXIT_INTERNAL)


def _only_cause(error: Exception) -> Exception:
    """What a task group wraps, if it is one error."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _let_stdout_end() -> None:
    """What could not be written may still be in the buffer: no second error for it when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    red, plain = (
        ("\033[31m", "\033[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    )
    sys.stderr.write(f"{red}error:{plain} {message}\n")
