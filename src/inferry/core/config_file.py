"""Reads `inferry.yaml`: YAML with line numbers, `${NAME}` from the environment, errors a person can act on.

An error names the file and line, the key, the value and the way out; all errors of a file are reported at
once. Values that came from the environment are remembered, so that `config show` prints the reference and
never the value.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inferry.core.config_rounds import what_is_wrong
from inferry.core.config_wording import KeyPath as KeyPath
from inferry.core.config_wording import dotted, explain, kind_of
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError

FILE_BYTES_MAX = 4 * 1024 * 1024
VALUES_MAX = 100_000
"""Aliases of aliases can make a short file endless; 1000 deployments with every key are some 30,000 values."""
_REFERENCE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WHOLE_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A valid deployment file and where each of its values came from."""

    path: Path
    config: DeploymentFile
    lines: Mapping[KeyPath, int]
    """Line (from 1) of each key that stands in the file."""
    references: Mapping[KeyPath, str]
    """The text with `${NAME}` as written, for each value that has a reference."""
    from_environment: Set[KeyPath]
    """Those of them that used the environment; of the others, only the default in the reference was used."""
    variables: Set[str]
    """The names of all variables that the file refers to, set or not."""

    def place(self, at: KeyPath) -> str:
        """`inferry.yaml:7`: the line of the key at `at`, or of the nearest group around it that is written."""
        return f"{self.path.name}:{_nearest_line(self.lines, at)}"

    def placed(self, message: str) -> str:
        """`message` with file and line before each of its lines that begins with a key of the file."""
        keys: dict[str, KeyPath] = {}
        for at in sorted(self.lines, key=len):  # names may hold dots: of two that read alike, the deeper one
            keys[dotted(at)] = at
        found = ((line, _key_at_start(line, keys)) for line in message.splitlines())
        return "\n".join(line if at is None else f"{self.place(at)}: {line}" for line, at in found)


def load_file(path: Path, environ: Mapping[str, str]) -> LoadedFile:
    """Read and check the deployment file at `path`.

    Raises ConfigError that lists everything wrong with it, one line each.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # A pipe would block, a device may never end.
            raise ConfigError(f"{path} is no ordinary file: write the deployment file to one, and name that")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(f"{path} is larger than {FILE_BYTES_MAX} bytes: that is no deployment file")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist. Write one with 'inferry init', or name another one"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: name the file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    return parse_text(text, path, environ)


def parse_text(text: str, path: Path, environ: Mapping[str, str]) -> LoadedFile:
    """As `load_file`, of a text that stands (or would stand) at `path`."""
    reader = _Reader(path.name)
    tree = reader.read(text)
    if tree is None:
        raise ConfigError(f"{path} is empty. 'inferry init' writes an example.")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold keys such as 'deployments:', not {kind_of(tree)}")
    problems: list[str] = []
    found = _References()
    tree = _resolve(tree, (), environ, found, problems, reader)
    # A default stands in the file, and so does what is written around a reference: no place for a secret.
    wholly = {found.resolved[at] for at, text in found.written.items() if _WHOLE_REFERENCE.fullmatch(text)}
    context = {"referenced_values": frozenset(wholly)}
    try:
        config = DeploymentFile.model_validate(tree, context=context)
    except ValidationError:
        problems += [
            explain(detail, tree, found.written, found.resolved, reader.place)
            for detail in what_is_wrong(tree, context, found.unset)
        ]
    if problems:
        raise ConfigError("\n".join(sorted(problems, key=line_of)))
    return LoadedFile(
        path,
        config.resolved_against(path.resolve().parent),
        reader.lines,
        found.written,
        found.from_environment,
        found.variables,
    )


def read_tree(text: str, name: str) -> Any:
    """The values that stand in a deployment file, references as they are written: keys read as `load_file` reads them.

    A YAML 1.1 library alone would take the key `on` for true. Raises ConfigError where that is not YAML.
    """
    return _Reader(name).read(text)


class _Reader:
    """Composes YAML nodes into plain values and keeps the line of every key."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self.lines: dict[KeyPath, int] = {}
        self._values = 0

    def read(self, text: str) -> Any:
        loader: yaml.SafeLoader | None = None
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, (), 0)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            detail = " ".join(part for part in (error.context, error.problem) if part)
            raise ConfigError(f"{self.file_name}:{line}: this is not YAML: {detail}") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{self.file_name}: this is not YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise ConfigError(f"{self.file_name}: nested too deeply") from None
        finally:
            if loader is not None:
                loader.dispose()

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, at: KeyPath, depth: int) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if depth > 20:
            raise ConfigError(f"{self.place(at)}: nested too deeply, or an alias that contains itself")
        self._values += 1
        if self._values > VALUES_MAX:
            raise ConfigError(
                f"{self.place(at)}: the file holds more than {VALUES_MAX} values, aliases followed"
            )
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key: Hashable = loader.construct_object(key_node)
                key = key_node.value if isinstance(key, bool) else key  # YAML 1.1 takes `on:` for true
                here = (*at, str(key))
                if str(key) in result:
                    raise ConfigError(
                        f"{self.file_name}:{key_node.start_mark.line + 1}: {dotted(here)} stands here twice "
                        f"(first in line {self.lines[here]})"
                    )
                self.lines[here] = key_node.start_mark.line + 1
                result[str(key)] = self._value(loader, value_node, here, depth + 1)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(loader, item, (*at, index), depth + 1) for index, item in enumerate(node.value)
            ]
        try:
            return loader.construct_object(node)
        except ValueError as error:  # 2026-02-30 looks like a date, and is none
            raise ConfigError(f"{self.place(at)}: {kind_of(node.value)} can't be read: {error}") from None

    def place(self, at: KeyPath) -> str:
        """`inferry.yaml:7: deployments.chat.replicas`, with the nearest line that is known."""
        line = _nearest_line(self.lines, at)
        return f"{self.file_name}:{line}: {dotted(at)}" if at else f"{self.file_name}:{line}"


@dataclass(slots=True)
class _References:
    """What the values with a reference say, by key path, and what became of them. See LoadedFile."""

    written: dict[KeyPath, str] = field(default_factory=dict)
    resolved: dict[KeyPath, str] = field(default_factory=dict)
    from_environment: set[KeyPath] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    unset: set[KeyPath] = field(default_factory=set)
    """Those with a variable that is not set, and no default."""


def _resolve(
    value: Any,
    at: KeyPath,
    environ: Mapping[str, str],
    found: _References,
    problems: list[str],
    reader: _Reader,
) -> Any:
    """`value` with every `${NAME}` and `${NAME:-default}` replaced; `$${NAME}` stays as `${NAME}`.

    As in a shell, the default also stands in for a variable that is set to nothing.
    """
    if isinstance(value, dict):
        return {
            key: _resolve(item, (*at, key), environ, found, problems, reader) for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _resolve(item, (*at, index), environ, found, problems, reader) for index, item in enumerate(value)
        ]
    if not isinstance(value, str) or "${" not in value:
        return value

    def one(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match[0][1:]
        found.written[at] = value
        found.variables.add(name)
        found_value = environ.get(name)
        if default is not None and not found_value:
            return default
        found.from_environment.add(at)
        if found_value is None:
            found.unset.add(at)
            # A default would stand in the file, which is no place for a key.
            way_out = "Set it." if at[-1] == "api_key" else f"Set it, or give a default: ${{{name}:-value}}"
            problems.append(f"{reader.place(at)}: the environment variable {name} is not set. {way_out}")
            return ""
        return found_value

    result = _REFERENCE.sub(one, value)
    if at in found.written:
        found.resolved[at] = result
    return result


def _nearest_line(lines: Mapping[KeyPath, int], at: KeyPath) -> int:
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def line_of(problem: str) -> int:
    """The line that a problem of a file begins with, as in `inferry.yaml:7: ...`; 0 where it names none."""
    number = problem.partition(":")[2].partition(":")[0]
    return int(number) if number.isdigit() else 0


def _key_at_start(line: str, keys: Mapping[str, KeyPath]) -> KeyPath | None:
    """The key that `line` begins with. It may name one that is not written: the longest known beginning counts."""
    for end in range(len(line), 0, -1):
        behind = line[end : end + 1]
        if behind.isalnum() or behind in ("_", "-"):
            continue
        at = keys.get(line[:end])
        # A section's name alone (`host`) may as well begin a sentence.
        if at is not None and (len(at) > 1 or behind in (".", ":")):
            return at
    return None
