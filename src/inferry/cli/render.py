"""`inferry render`: the deployment file as files for other tools. It writes them; what they say is render's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.core.errors import ConfigError


def render(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="What to write; 'all': everything that fits the file.")
    ],
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="The deployment file.")
    ] = DEFAULT_FILE,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to; one folder a target.")
    ] = Path("deploy"),
    name: Annotated[
        str, typer.Option("--name", help="What everything is called after, and the namespace.")
    ] = "inferry",
    host: Annotated[str, typer.Option("--host", help="The name that clients use.")] = "llm.example.com",
    image: Annotated[
        str | None, typer.Option("--image", help="The gateway's image, with registry and version.")
    ] = None,
    gateways: Annotated[
        int, typer.Option("--gateways", min=1, max=100, help="How many; more than one needs ledger.url.")
    ] = 2,
    upstream: Annotated[
        list[str] | None,
        typer.Option("--upstream", metavar="HOST:PORT", help="For proxies: a gateway's address; repeatable."),
    ] = None,
    http_port: Annotated[
        int, typer.Option("--http-port", min=1, max=65535, help="For proxies: only leads on to HTTPS.")
    ] = 80,
    https_port: Annotated[int, typer.Option("--https-port", min=1, max=65535, help="For proxies.")] = 443,
    certificates: Annotated[
        Path,
        typer.Option("--certificates", metavar="DIR", help="For proxies: has fullchain.pem and privkey.pem."),
    ] = Path("/etc/inferry/tls"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say whether DIR is what would be written.")
    ] = False,
) -> None:
    """Write what other tools need to run this deployment: docker, compose, kubernetes, helm, nginx, prometheus, ..."""
    from inferry.cli.config_check import errors_placed
    from inferry.cli.rendered_files import check_folder, write_folder
    from inferry.cli.shipping import make_shipment
    from inferry.core.config_file import load_file
    from inferry.core.suggest import did_you_mean
    from inferry.render.shipment import ProxyWishes
    from inferry.render.targets import TARGETS

    known = {each.name: each for each in TARGETS}
    if target != "all" and target not in known:
        raise ConfigError(
            f"There is no target '{target}'.{did_you_mean(target, [*known, 'all'])} One of: {', '.join([*known, 'all'])}"
        )
    loaded = load_file(file, os.environ)
    with errors_placed(loaded):
        shipment = make_shipment(
            loaded, file.read_text(encoding="utf-8"), os.environ,
            name=name, host=host, image=image, gateways=gateways, upstreams=tuple(upstream or ()),
            proxy=ProxyWishes(http_port, https_port, str(certificates)),
        )  # fmt: skip
        changed = 0
        for each in known.values() if target == "all" else [known[target]]:
            try:
                files = each.render(shipment)
            except ConfigError as error:
                if target != "all":
                    raise
                typer.echo(f"{each.name}: left out: {error.message}", err=True)
                continue
            folder = output / each.name
            if check:
                changed += check_folder(folder, files, typer.echo)
            else:
                write_folder(folder, files)
                typer.echo(f"{folder}: {len(files)} files: {each.says}")
    if changed:
        raise ConfigError(
            f"{changed} files are not as they would be written. Write them: leave '--check' out"
        )
    if check:
        typer.echo(f"{output} is up to date")
