"""`inferry keys`: make, show, limit, rotate and revoke API keys.

It writes to the store itself, so it works whether or not Inferry runs; gateways that run see a change within a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.key_options import with_limits
from inferry.cli.store_choice import AsJson, File
from inferry.core.api_key import ApiKey, Scope
from inferry.core.clock import SystemClock, utc_text
from inferry.core.config_file import LoadedFile, load_file
from inferry.core.errors import BadKeySetting
from inferry.core.home import inferry_home
from inferry.core.limits import Limits, Priority
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    from inferry.ledger.keys import KeySettings, KeyStore, NewKey

# inferry.ledger is imported inside the verbs: `inferry --help` needs no database.

app = typer.Typer(no_args_is_help=True, help="Make, show, limit, rotate and revoke API keys.")

Which = Annotated[str, typer.Argument(metavar="KEY", help="Its id, name or prefix; never its secret text.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Unique within the tenant.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="inference, admin or read-only; may be repeated. inference if left out.",
    ),
]
Deployments = Annotated[
    list[str] | None,
    typer.Option("--deployment", metavar="NAME", help="That it may call; may be repeated. All if left out."),
]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="WHEN", help="12h, 30d, 4w, a UTC date such as 2027-01-31, or never."),
]
Level = Annotated[Priority | None, typer.Option("--priority", help="Whom a busy deployment serves first.")]


@app.command()
@with_limits
def create(
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Who owns it.")],
    limits: Limits,
    name: Name = None,
    scope: Scopes = None,
    deployment: Deployments = None,
    expires: Expires = None,
    priority: Level = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show its text, this once."""
    settings = _settings(name, scope, deployment, expires, priority)
    settings["limits"] = limits
    with _opened(file) as (store, loaded):
        made = store.create(tenant, **settings)
    if loaded is not None:
        _warn(loaded, made.key)
    _show_new(made, as_json)


@app.command(name="list")
def list_keys(
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only of this one.")] = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Show all keys."""
    from inferry.admin.key_view import view_key
    from inferry.cli.key_table import key_table

    with _opened(file) as (store, _):
        now_wall_s = SystemClock().wall_s()
        views = [view_key(key, now_wall_s) for key in store.list(tenant)]
    if as_json:
        typer.echo(json.dumps([view.model_dump() for view in views], indent=2))
    elif views:
        typer.echo(key_table(views))
    else:
        whose = "" if tenant is None else f" of tenant '{tenant}'"
        typer.echo(f"There are no keys{whose} yet. 'inferry keys create --tenant NAME' makes one.")


@app.command()
def show(which: Which, file: File = None, as_json: AsJson = False) -> None:
    """Show one key; not its text, which nobody has."""
    with _opened(file) as (store, _):
        _show(store.get(which), as_json)


@app.command()
@with_limits
def change(
    which: Which,
    limits: Limits,
    name: Name = None,
    scope: Scopes = None,
    deployment: Deployments = None,
    all_deployments: Annotated[
        bool, typer.Option("--all-deployments", help="It may call every one again.")
    ] = False,
    expires: Expires = None,
    priority: Level = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Change what is named and leave the rest as it is. Scopes and deployments are replaced, not added to."""
    settings = _settings(name, scope, deployment, expires, priority)
    if all_deployments:
        if deployment:
            raise BadKeySetting("--deployment and --all-deployments contradict each other; give one of them.")
        settings["deployments"] = None
    if limits.model_fields_set:
        settings["limits"] = limits
    if not settings:
        raise BadKeySetting("Nothing to change: 'inferry keys change --help' shows what can be.")
    with _opened(file) as (store, loaded):
        key = store.change(which, **settings)
    if loaded is not None and deployment:
        _warn_of_deployments(loaded, key)
    _show(key, as_json)


@app.command()
def disable(which: Which, file: File = None, as_json: AsJson = False) -> None:
    """Switch a key off: it is refused within a second. 'enable' takes that back."""
    _switch(which, True, file, as_json)


@app.command()
def enable(which: Which, file: File = None, as_json: AsJson = False) -> None:
    """Switch a disabled key on again."""
    _switch(which, False, file, as_json)


@app.command()
def rotate(
    which: Which,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="SPAN", help="How long the old text still works: 10m, 24h, 7d."),
    ] = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new text, and show it, this once. Without --grace the old one is dead within a second."""
    from inferry.ledger.expiry import duration_s

    grace_s = 0.0 if grace is None else duration_s(grace, "grace")
    with _opened(file) as (store, _):
        _show_new(store.rotate(which, grace_s=grace_s), as_json)
    if grace_s:
        typer.echo(f"The old text works until {utc_text(SystemClock().wall_s() + grace_s)}.", err=True)


@app.command()
def rm(
    which: Which,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Delete a key for ever. Records of what it did stay."""
    with _opened(file) as (store, _):
        key = store.get(which)
        if not yes:
            typer.confirm(f"Delete key {key.id} ({key.name}) of {key.tenant}?", abort=True, err=True)
        store.remove(key.id)
    if as_json:
        _show(key, as_json)
    else:
        typer.echo(f"{key.id} ({key.name}) of {key.tenant} is deleted.")


def _switch(which: str, disabled: bool, file: Path | None, as_json: bool) -> None:
    with _opened(file) as (store, _):
        key = store.set_disabled(which, disabled)
    if as_json:
        _show(key, as_json)
    else:
        typer.echo(f"{key.id} ({key.name}) of {key.tenant} is {'disabled' if disabled else 'enabled'}.")


@contextmanager
def _opened(file: Path | None) -> Iterator[tuple[KeyStore, LoadedFile | None]]:
    """The store that is meant, and the file that says so, if one does."""
    from inferry.ledger.database import default_url, open_database
    from inferry.ledger.keys import KeyStore

    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    loaded = None if file is None else load_file(file, os.environ)
    named = None if loaded is None else loaded.config.ledger.url
    database = open_database(default_url(inferry_home(os.environ)) if named is None else named)
    try:
        database.migrate()
        yield KeyStore(database, SystemClock()), loaded
    finally:
        database.close()


def _settings(
    name: str | None,
    scope: list[str] | None,
    deployment: list[str] | None,
    expires: str | None,
    priority: Priority | None,
) -> KeySettings:
    from inferry.ledger.expiry import expiry_wall_s

    settings: KeySettings = {}
    if name is not None:
        settings["name"] = name
    if scope:
        settings["scopes"] = frozenset(cast(list[Scope], scope))  # the store checks them
    if deployment:
        settings["deployments"] = frozenset(deployment)
    if expires is not None:
        settings["expires_wall_s"] = expiry_wall_s(expires, SystemClock().wall_s())
    if priority is not None:
        settings["priority"] = priority
    return settings


def _warn(loaded: LoadedFile, key: ApiKey) -> None:
    """What will surprise, and is no error: the file may change tomorrow."""
    config = loaded.config
    if config.gateway.auth == "none":
        typer.echo(
            f"warning: {loaded.path} does not ask for keys yet; write 'auth: keys' under 'gateway:'.",
            err=True,
        )
    if "inference" in key.scopes and config.tenants and key.tenant not in config.tenants:
        hint = did_you_mean(key.tenant, config.tenants)
        typer.echo(
            f"warning: {loaded.path} has no tenant '{key.tenant}', so no limits for all its keys together.{hint}",
            err=True,
        )
    _warn_of_deployments(loaded, key)


def _warn_of_deployments(loaded: LoadedFile, key: ApiKey) -> None:
    known = {*loaded.config.deployments, *loaded.config.names}
    for name in sorted((key.deployments or frozenset()) - known):
        hint = did_you_mean(name, known)
        typer.echo(f"warning: {loaded.path} has no deployment '{name}'.{hint}", err=True)


def _show(key: ApiKey, as_json: bool) -> None:
    from inferry.admin.key_view import view_key
    from inferry.cli.key_table import key_lines

    view = view_key(key, SystemClock().wall_s())
    typer.echo(view.model_dump_json(indent=2) if as_json else key_lines(view))


def _show_new(made: NewKey, as_json: bool) -> None:
    from inferry.admin.key_view import view_new_key
    from inferry.cli.key_table import key_lines

    view = view_new_key(made.key, made.text, SystemClock().wall_s())
    if as_json:
        typer.echo(view.model_dump_json(indent=2))
        return
    typer.echo(f"key          {made.text}")
    typer.echo(key_lines(view))
    typer.echo("Keep the key now: only its hash is stored, so it can't be shown again.", err=True)
