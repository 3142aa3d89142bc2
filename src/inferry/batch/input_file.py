"""The input: one request a line, as OpenAI's Batch API has it (https://platform.openai.com/docs/api-reference/batch).

All of it is checked before anything is sent, so that nobody pays for the first half of a file whose second half is
malformed. Memory: 8 bytes a line, and a line at a time.
"""

from __future__ import annotations

import hashlib
import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from inferry.core.errors import ConfigError
from inferry.core.request import ROUTES
from inferry.core.suggest import did_you_mean

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Twice what a gateway takes by default: a file without line ends must not fill the memory."""
PROBLEMS_MAX = 20
"""Then reading ends: what is wrong in twenty lines is seldom different in the rest."""
CUSTOM_ID_CHARS_MAX = 1024

Fields = dict[str, msgspec.Raw]
_fields = msgspec.json.Decoder(Fields).decode
_text = msgspec.json.Decoder(str).decode
_BOM = b"\xef\xbb\xbf"
_PATH = re.compile(r"/v1/[!-~]{1,2000}")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One line, ready to be sent."""

    line: int
    """From 1, as editors count."""
    custom_id: str
    path: str
    """Beginning with /v1/."""
    model: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """How lines are to be understood."""

    any_path: bool = False
    """Not only the paths that Inferry has: the service is another one."""
    model: str | None = None
    """Stands in the place of each request's own model."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a whole, well-formed file holds."""

    requests: int
    lines: int
    end: int
    """Bytes up to there: what is appended later is no part of it."""
    sha256: str
    by_path: Counter[str]
    by_model: Counter[str]


class BadLine(Exception):
    """A line that is no request; the message begins with the field."""


def scan(path: Path, reading: Reading, end: int = sys.maxsize) -> Scan:
    """Check every line of the first `end` bytes; raises ConfigError that names the lines and fields that are wrong."""
    digest, ids = hashlib.sha256(), array("Q")
    by_path, by_model = Counter[str](), Counter[str]()
    problems: list[str] = []
    line = size = 0
    for line, text, line_end in _lines(path, end):
        size = line_end
        digest.update(text)
        if not text.strip():
            continue
        try:
            request = parse_line(line, text, reading)
        except BadLine as error:
            problems.append(f"line {line}: {error}")
            if len(problems) == PROBLEMS_MAX:
                break
            continue
        ids.append(_short(request.custom_id))
        by_path[request.path] += 1
        by_model[request.model] += 1
    if len(problems) < PROBLEMS_MAX:
        problems += _repeated(path, end, ids, reading)
    if problems:
        more = " Only the first ones are shown." if len(problems) >= PROBLEMS_MAX else ""
        raise ConfigError(
            "\n".join([f"{path} can't be run as a batch; nothing was sent.{more}"]
                      + [f"  {each}" for each in problems[:PROBLEMS_MAX]])
        )  # fmt: skip
    if not ids:
        raise ConfigError(f"{path} holds no requests: write one JSON object per line.")
    return Scan(len(ids), line, size, digest.hexdigest(), by_path, by_model)


def begins_with(path: Path, end: int, sha256: str) -> bool:
    """Whether the first `end` bytes are those of which a scan had that digest: lines may have been appended since."""
    digest, size = hashlib.sha256(), 0
    for _, text, line_end in _lines(path, end):
        size = line_end
        digest.update(text)
    return size == end and digest.hexdigest() == sha256


def read(path: Path, reading: Reading, found: Scan) -> Iterator[BatchRequest]:
    """The requests in order. Raises ConfigError where the file is no longer what `scan` saw, but for what was appended."""
    for line, text, _ in _lines(path, found.end):
        if text.strip():
            try:
                if line > found.lines:
                    raise BadLine("was not there before")
                yield parse_line(line, text, reading)
            except BadLine as error:
                raise ConfigError(f"{path} was changed while it was read: line {line}: {error}") from error


def parse_line(line: int, text: bytes, reading: Reading) -> BatchRequest:
    """The request in one line; raises BadLine."""
    if len(text) > LINE_BYTES_MAX:
        raise BadLine(f"longer than {LINE_BYTES_MAX} bytes")
    fields = _object(text, "the line")
    custom_id = _string(fields, "custom_id")
    if not custom_id or len(custom_id) > CUSTOM_ID_CHARS_MAX:
        raise BadLine(f"custom_id: has {len(custom_id)} characters; 1 to {CUSTOM_ID_CHARS_MAX} are right")
    method = _string(fields, "method")
    if method != "POST":
        raise BadLine(f"method: '{method}' can't be run; only 'POST' can")
    path = _string(fields, "url")
    if path not in ROUTES and not (reading.any_path and _PATH.fullmatch(path)):
        if reading.any_path and path.startswith("/v1/"):
            raise BadLine(
                f"url: {path[:80]!a} can't be sent: 1 to 2000 printable ASCII signs follow /v1/, others as %XX"
            )
        known = [each for each in ROUTES if each.startswith("/v1/")]
        raise BadLine(f"url: '{path}' is not served.{did_you_mean(path, known)}")
    if "body" not in fields:
        raise BadLine(f"body: is missing.{_instead('body', fields)}")
    body = _object(bytes(fields["body"]), "body")
    if "stream" in body and bytes(body["stream"]) == b"true":
        raise BadLine("body.stream: a batch has whole answers only; leave 'stream' out")
    if reading.model is None:
        model = _string(body, "model", "body.")
        if not model:
            raise BadLine("body.model: is empty")
        return BatchRequest(line, custom_id, path, model, bytes(fields["body"]))
    body["model"] = msgspec.Raw(msgspec.json.encode(reading.model))
    return BatchRequest(line, custom_id, path, reading.model, msgspec.json.encode(body))


def _lines(path: Path, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Lines of the first `end` bytes: number, text, and the byte where it ends."""
    try:
        with path.open("rb") as file:
            line = at = 0
            while text := file.readline(min(LINE_BYTES_MAX + 1, end - at)):
                line, at = line + 1, at + len(text)
                yield line, text.removeprefix(_BOM) if line == 1 else text, at
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error


def _object(text: bytes, where: str) -> Fields:
    try:
        text.decode()
        return _fields(text)
    except UnicodeDecodeError as error:
        raise BadLine(f"{where}: is not UTF-8 (byte {error.start + 1})") from error
    except msgspec.ValidationError as error:
        raise BadLine(f"{where}: must be a JSON object") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadLine(f"{where}: {error}") from error


def _string(fields: Fields, name: str, prefix: str = "") -> str:
    if name not in fields:
        raise BadLine(f"{prefix}{name}: is missing.{_instead(name, fields)}")
    try:
        return _text(fields[name])
    except msgspec.MsgspecError as error:
        raise BadLine(f"{prefix}{name}: must be a text, not {bytes(fields[name])[:40].decode()}") from error


def _instead(name: str, fields: Fields) -> str:
    """A key that is there and may have been meant."""
    near = did_you_mean(name, fields)
    return f" There is{near.removeprefix(' Did you mean').rstrip('?')}." if "Did you mean" in near else ""


def _short(custom_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest())


def _repeated(path: Path, end: int, ids: array[int], reading: Reading) -> list[str]:
    """What is wrong with ids that stand in several lines. `ids`: short hashes, so equal ones are looked at again."""
    ordered = sorted(ids)
    doubtful = {each for each, after in pairwise(ordered) if each == after}
    if not doubtful:
        return []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    for line, text, _ in _lines(path, end):
        try:
            custom_id = parse_line(line, text, reading).custom_id
        except BadLine:
            continue
        if _short(custom_id) in doubtful:
            first = first_line.setdefault(custom_id, line)
            if first != line:
                problems.append(f"line {line}: custom_id: '{custom_id[:80]}' stands in line {first} already")
        if len(problems) == PROBLEMS_MAX:
            break
    return problems
