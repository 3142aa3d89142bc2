"""`inferry scale`: how many replicas, by hand or by the file's rules; and, by the verbs below it, why and since when."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, client_of, scaling_client_of, show
from inferry.cli.scale_dry_run import dry_run
from inferry.cli.scale_explain import explain
from inferry.cli.scale_history import history

AUTO = "auto"
SET = "set"
REPLICAS_MAX = 256
_HELP = frozenset({"--help", "-h"})


class _SetOrVerb(TyperGroup):
    """`inferry scale chat 3` is short for `inferry scale set chat 3`. A deployment may be called like a verb: with a
    number or `auto` behind it, it is the deployment."""

    default_verb = SET

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and not (args[0] in _HELP or self._is_verb(args)):
            args = [self.default_verb, *args]
        return super().parse_args(ctx, args)

    def _is_verb(self, args: list[str]) -> bool:
        return args[0] in self.commands and not (len(args) > 1 and (args[1] == AUTO or _is_number(args[1])))


app = typer.Typer(
    cls=_SetOrVerb,
    no_args_is_help=True,
    help="Give a deployment another number of replicas, or see why it has so many.\n\n"
    "'inferry scale chat 3' sets it by hand, 'inferry scale chat auto' leaves it to the file's rules again.",
)
app.command("history")(history)
app.command("explain")(explain)
app.command("dry-run")(dry_run)


# So that -1 is a number out of bounds, and no option that nobody knows.
@app.command(SET, context_settings={"ignore_unknown_options": True})
def scale(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name in the file.")],
    replicas: Annotated[
        str,
        typer.Argument(
            metavar="N|auto",
            help="How many it shall have; auto: as many as its 'scaling' wants, from now on.",
        ),
    ],
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Give a deployment another number of replicas; the same without the word 'set'.

    It holds until the file says another number than now; a deployment that scales by itself rests until then, or
    until 'auto'.
    """
    if replicas == AUTO:
        done = scaling_client_of(port).auto(deployment)
        typer.echo(done.model_dump_json(indent=2) if as_json else done.message)
        return
    if not _is_number(replicas) or not 1 <= int(replicas) <= REPLICAS_MAX:
        raise typer.BadParameter(
            f"'{replicas}' is neither a number from 1 to {REPLICAS_MAX} nor '{AUTO}'.", param_hint="'N|auto'"
        )
    show(client_of(port).scale(deployment, int(replicas)), as_json)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
