"""An engine's command as text for a POSIX shell, to be read, kept and pasted. Holds no secret, only names of variables."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from inferry.core.launch import KEY_MARK, EngineCommand
from inferry.engines.container import (
    ContainerPlan,
    Words,
    docker_words,
    grouped,
    has_key_in_files,
    needs_key,
)

KEY_NAME = "INFERRY_ENGINE_KEY"
"""The variable that the texts take the replica's key from."""

_ASK_FOR_KEY = f"${{{KEY_NAME}:?set it first, as in: {KEY_NAME}=\\$(openssl rand -hex 32)}}"


def process_text(command: EngineCommand, files_folder: Path, hidden_env: frozenset[str] = frozenset()) -> str:
    """The command as a process of this machine."""
    unseen = {*hidden_env, *command.secret_env}
    shown = [f"{name}={shlex.quote(value)}" for name, value in command.env.items() if name not in unseen]
    groups = [(command.program,), *grouped(command.args)]
    lines = [*shown, *(shlex.join(words) for words in _with_subcommand(groups))]
    return _script([*_variables(command, hidden_env), *_files(command, files_folder), _continued(lines)])


def docker_text(plan: ContainerPlan) -> str:
    """The command as a container of this machine."""
    lines = [shlex.join(words) for words in docker_words(plan)]
    preparation = [*_variables(plan.command, plan.hidden_env), *_files(plan.command, plan.files_folder)]
    return _script([*preparation, _continued(lines)])


def comment(sentences: Iterable[str]) -> str:
    """Each sentence as a comment."""
    return "".join(f"# {line}\n" for sentence in sentences for line in sentence.splitlines())


def _with_subcommand(groups: Sequence[Words]) -> list[Words]:
    """The program and what is no flag on one line: `vllm serve MODEL`."""
    if len(groups) > 1 and not groups[1][0].startswith("-"):
        return [(*groups[0], *groups[1]), *groups[2:]]
    return list(groups)


def _variables(command: EngineCommand, hidden_env: frozenset[str]) -> list[str]:
    hidden = [name for name in command.env if name in hidden_env and name not in command.secret_env]
    lines = [f'export {name}="{_ASK_FOR_KEY}"' for name in command.secret_env]
    if needs_key(command) and not lines:
        lines.append(f': "{_ASK_FOR_KEY}"')
    lines += [f'export {name}="${{{name}:?its value is not shown here: set it first}}"' for name in hidden]
    return lines


def _files(command: EngineCommand, folder: Path) -> list[str]:
    if not command.files:
        return []
    lines = [f"mkdir -p -m 700 {shlex.quote(str(folder))}"]
    for name, content in command.files.items():
        lines.append(_here_document(str(PurePosixPath(folder, name)), content, has_key_in_files(command)))
    return lines


def _here_document(path: str, content: str, has_key: bool) -> str:
    """Writes a file from the shell's input, so that a key in it is in no process's arguments."""
    end = "END_OF_FILE"
    while end in content:
        end += "_"
    body = content if content.endswith("\n") else content + "\n"
    if not has_key:
        return f"cat > {shlex.quote(path)} <<'{end}'\n{body}{end}"
    for mark in ("\\", "$", "`"):
        body = body.replace(mark, "\\" + mark)
    body = body.replace(KEY_MARK, f"${{{KEY_NAME}}}")
    return f"cat > {shlex.quote(path)} <<{end}\n{body}{end}"


def _continued(lines: Sequence[str]) -> str:
    return " \\\n  ".join(lines)


def _script(parts: Sequence[str]) -> str:
    return "\n".join(parts) + "\n"
