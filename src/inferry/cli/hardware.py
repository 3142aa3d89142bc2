"""`inferry hardware`: what this machine has, and what the catalog knows of devices."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

# The planner and the readings are imported inside the verb: `inferry --help` needs neither.


def hardware(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A device of the catalog, by any of its names.", show_default=False
        ),
    ] = None,
    catalog: Annotated[bool, typer.Option("--catalog", help="Show all devices that are known.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show this machine's GPUs, CPU, memory, disk and engines; or the catalog of devices, with sources and prices."""
    if name is not None:
        _show_device(name, as_json)
    elif catalog:
        _show_catalog(as_json)
    else:
        _show_here(as_json)


def _show_here(as_json: bool) -> None:
    from inferry.cli.engines_here import engine_here
    from inferry.cli.hardware_here import busy_gpus, device_list, machine_here, unknown_gpus
    from inferry.cli.machine_readings import read_disk
    from inferry.core.home import inferry_home
    from inferry.engines.facts import ORDER

    machine = machine_here(os.environ)
    devices, unknown = device_list(machine), unknown_gpus(machine)
    folder = inferry_home(os.environ)
    free_bytes, writable = read_disk(folder)
    home = {"folder": str(folder), "free_bytes": free_bytes, "writable": writable}
    found = {each: engine_here(each, os.environ) for each in ORDER if each != "simulated"}
    engines = {
        each: f"{here.version or 'version not known'}, {here.where}"
        for each, here in found.items()
        if here is not None
    }
    if not as_json:
        from inferry.cli.hardware_text import here_text

        typer.echo(here_text(machine, devices, unknown, home, engines))
        return
    from msgspec import to_builtins

    typer.echo(
        json.dumps(
            {
                "gpus": to_builtins(machine.gpus),
                "cpu": to_builtins(machine.cpu),
                "home": home,
                "engines": engines,
                "devices": [device_json(each) for each in devices],
                "unknown_gpus": unknown,
                "warnings": busy_gpus(machine),
            },
            indent=2,
        )
    )


def _show_catalog(as_json: bool) -> None:
    from inferry.planner.facts.device_catalog import device_sources, known_devices

    if as_json:
        from msgspec import to_builtins

        devices = [device_json(each) for each in known_devices()]
        typer.echo(json.dumps({"devices": devices, "sources": to_builtins(device_sources())}, indent=2))
        return
    from inferry.cli.hardware_text import catalog_text

    typer.echo(catalog_text(known_devices()))


def _show_device(name: str, as_json: bool) -> None:
    from inferry.planner.facts.device_catalog import find_device
    from inferry.planner.facts.engine_comparison import comparison

    device = find_device(name)
    if as_json:
        typer.echo(json.dumps(device_json(device), indent=2))
        return
    from inferry.cli.hardware_text import device_text

    typer.echo(device_text(device, comparison(device)))


def device_json(device: Any) -> dict[str, Any]:
    """A `Device` for programs; units are in its names."""
    from msgspec import to_builtins

    told: dict[str, Any] = to_builtins(device)
    return told
