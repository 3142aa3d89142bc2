"""The flags of an argparse parser, in the form of src/inferry/engines/tables. Standard library only."""

from __future__ import annotations

import argparse


def flags_of(parser: argparse.ArgumentParser) -> dict[str, dict[str, str]]:
    """`flags` by their longest-known spelling (the first long one), and `aliases` to those."""
    flags: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for action in parser._actions:
        names = list(action.option_strings)
        if not names or "--help" in names:
            continue
        long = [name for name in names if name.startswith("--")]
        main = long[0] if long else names[0]
        flags[main] = takes(action)
        for name in names:
            if name == main:
                continue
            # The negative of a boolean flag means something else: a flag of its own.
            if name.startswith("--no-") and isinstance(action, argparse.BooleanOptionalAction):
                flags[name] = "switch"
            else:
                aliases[name] = main
    return {"flags": dict(sorted(flags.items())), "aliases": dict(sorted(aliases.items()))}


def takes(action: argparse.Action) -> str:
    """What follows the flag, in the tables' words."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    if action.nargs in ("+", "*"):
        return "values"
    if action.nargs == "?":
        return "maybe"
    return "value"
