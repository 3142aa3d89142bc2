"""Checks an operator's extra arguments before an engine starts, and tells everything that is wrong at once.

An engine that does not know a flag ends at its first line, on the machine that was waited for. Versions newer
than the tables may know more: there, an unknown flag is the engine's to judge.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.engines.flag_table import FlagTable

_NEGATIVE_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")


def lint(where: str, args: Sequence[str], table: FlagTable, managed: Mapping[str, str]) -> None:
    """Raises ConfigError with every problem of `args`. `where` names their key in the file.

    `managed` has the flags that Inferry sets: each with the file's key to use instead, or '' for none, or a
    sentence.
    """
    problems: list[str] = []
    # Versions differ in which of a flag's names is the other's alias.
    managed = {table.known(flag): key for flag, key in managed.items()}
    at = 0
    while at < len(args):
        written, equals, _ = args[at].partition("=")
        at += 1
        if not _is_flag(args[at - 1]):
            problems.append(f"'{args[at - 1]}' is not a flag, and follows none that takes it")
            continue
        following = 0
        while at + following < len(args) and not _is_flag(args[at + following]):
            following += 1
        problem, taken = _check(written, bool(equals), following, table, managed)
        if problem is not None:
            problems.append(problem)
        at += taken
    if problems:
        told = "; ".join(problems)
        end = "" if told.endswith(("?", ".")) else "."
        raise ConfigError(f"{where}: {told}{end} (Known flags: {table.read_from}.)")


def _check(
    written: str, has_value: bool, following: int, table: FlagTable, managed: Mapping[str, str]
) -> tuple[str | None, int]:
    """What is wrong with one flag, and how many of the words that follow belong to it."""
    flag = table.known(written)
    joined = False
    if flag not in table.flags and re.match(r"-[A-Za-z]\w", written):
        # `-O3`: a short flag with its value joined on.
        short = table.known(written[:2])
        if table.flags.get(short) == "value":
            flag, joined = short, True
    rest = 0 if has_value or joined else following
    if flag in managed:
        key = managed[flag]
        return f"drop '{written}': {_instead(key)}", rest
    if flag in table.gone:
        gone = table.gone[flag]
        return f"'{written}' is gone ({table.engine} {gone.since} has it no more): {gone.instead}", rest
    takes = table.flags.get(flag)
    if takes is None and not table.complete:
        return None, rest
    if takes is None:
        return f"{table.engine} has no flag '{written}'{_near(flag, table)}", rest
    if takes == "switch":
        return (f"'{written}' takes no value" if has_value else None), 0
    if takes in ("value", "values") and not (has_value or joined or following):
        return f"'{written}' needs a value", 0
    return None, rest if takes == "values" else min(rest, 1)


def _instead(key: str) -> str:
    if not key:
        return "Inferry sets it itself"
    return key if " " in key else f"write '{key}' in the deployment instead"


def _is_flag(word: str) -> bool:
    """As Python's argparse sees it: a dash in front, unless it is a negative number or a lone dash."""
    name = word.partition("=")[0]
    return len(name) > 1 and name.startswith("-") and " " not in name and not _NEGATIVE_NUMBER.match(name)


def _near(flag: str, table: FlagTable) -> str:
    """Engines have hundreds of flags: unlike core.suggest, no list of them all."""
    near = difflib.get_close_matches(flag[:200], [*table.flags, *table.aliases], n=1, cutoff=0.6)
    return f". Did you mean '{near[0]}'?" if near else ""
