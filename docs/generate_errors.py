"""The generated part of docs/errors.md: the error tree with what a client gets of each, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from inferry.cli import batch, bench, entry, main, plan_refusals
from inferry.core.errors import ConfigError, EngineError, InferryError, LedgerError, Rejected
from inferry.core.request import Dialect
from inferry.gateway.errors import render_error

_BRANCHES: tuple[tuple[type[InferryError], str], ...] = (
    (Rejected, "The client must act"),
    (EngineError, "The engine or the fleet must act"),
    (LedgerError, "The platform must act"),
)


def reference() -> str:
    """Tables of what clients get, of what commands say, and of exit codes."""
    parts = [_branch(branch, title) for branch, title in _BRANCHES]
    return "\n\n".join([*parts, _types(), _operators(), _exit_codes()])


def _tree(branch: type[InferryError]) -> Iterator[type[InferryError]]:
    yield branch
    for each in branch.__subclasses__():
        if (
            each.__module__ == InferryError.__module__
        ):  # others are of whatever else this process has imported
            yield from _tree(each)


def _by_code(branch: type[InferryError]) -> dict[str, type[InferryError]]:
    """One class for each code: of a class and its subclasses with the same code, the first."""
    found: dict[str, type[InferryError]] = {}
    for each in _tree(branch):
        found.setdefault(each.code, each)
    return found


def _said(kind: type[InferryError]) -> str:
    return " ".join((kind.__doc__ or "").split()).replace("|", r"\|")


def _type(kind: type[InferryError], dialect: Dialect) -> str:
    body = msgspec.json.decode(render_error(kind("."), dialect))
    return str(body["error"]["type"])


def _branch(branch: type[InferryError], title: str) -> str:
    lines = [f"## {title}", "", "| `code` | Status | Again? | What has happened |", "|---|---|---|---|"]
    for code, kind in sorted(_by_code(branch).items(), key=lambda each: (each[1].status, each[0])):
        lines.append(f"| `{code}` | {kind.status} | {'yes' if kind.retryable else 'no'} | {_said(kind)} |")
    return "\n".join(lines)


def _types() -> str:
    """`type` follows from the status alone."""
    kinds = {kind.status: kind for branch, _ in _BRANCHES for kind in _by_code(branch).values()}
    lines = ["## `type`, by status", "", "| Status | OpenAI's form | Anthropic's form |", "|---|---|---|"]
    for status, kind in sorted(kinds.items()):
        lines.append(f"| {status} | `{_type(kind, Dialect.OPENAI)}` | `{_type(kind, Dialect.ANTHROPIC)}` |")
    return "\n".join(lines)


def _operators() -> str:
    lines = [
        "## The operator must act",
        "",
        "Said by commands, with exit code 1 if nothing else is written below, and by the admin API.",
        "",
        "| `code` | Again? | What has happened |",
        "|---|---|---|",
    ]
    for code, kind in sorted(_by_code(ConfigError).items()):
        lines.append(f"| `{code}` | {'yes' if kind.retryable else 'no'} | {_said(kind)} |")
    return "\n".join(lines)


def _exit_codes() -> str:
    rows = [
        (0, "every verb", "done; of `inferry up`: ended as asked"),
        (main.EXIT_ERROR, "every verb", "something is wrong, and the message says what and the way out"),
        (
            bench.EXIT_GOAL_MISSED,
            "`inferry bench`",
            "the goal was missed; of a comparison: the second is worse",
        ),
        (2, "every verb", "the command line is wrong: an unknown verb, option or value"),
        (bench.EXIT_BAD_INPUT, "`inferry bench`", "the load can't be made as it was asked for"),
        (
            plan_refusals.EXIT_NOT_PLANNED,
            "`inferry plan`",
            "it was not planned: what was asked for can't be read",
        ),
        (batch.EXIT_SOME_FAILED, "`inferry batch`", "done, and some requests have failed"),
        (
            bench.EXIT_INVALID,
            "`inferry bench`",
            "the result says nothing of the server: the client was the limit",
        ),
        (main.EXIT_INTERNAL, "every verb", "a fault in Inferry; `INFERRY_DEBUG=1` shows where"),
        (entry.EXIT_INTERRUPTED, "every verb but `inferry up`", "Ctrl-C"),
    ]
    lines = ["## Exit codes", "", "| Code | Of | When |", "|---|---|---|"]
    lines += [f"| {code} | {of} | {when} |" for code, of, when in rows]
    return "\n".join(lines)
