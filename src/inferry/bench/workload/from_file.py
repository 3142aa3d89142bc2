"""Prompts that somebody wrote down: ShareGPT's JSON, or JSON lines with `prompt` or `messages`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from inferry.bench.chance import stream
from inferry.bench.plan import FromFile
from inferry.bench.records import Ask
from inferry.bench.tokenizer_file import open_tokenizer
from inferry.bench.tokens import Wording
from inferry.bench.workload.lengths import draw
from inferry.bench.workload.outline import Outline, Script
from inferry.core.errors import BadBenchPlan

_GZIP = b"\x1f\x8b"


class _Prompt(Struct, frozen=True):
    text: str | None
    messages: tuple[tuple[str, str], ...] | None
    output_tokens: int | None
    """As the file says it."""
    answer: str | None = None
    """That somebody gave: its length counts where none is said."""


def file_outlines(workload: FromFile, script: Script, dues: Iterator[float | None]) -> Iterator[Outline]:
    """Each prompt once, and all again in the same order when they end before the run. Raises BadBenchPlan at once.

    The order is the run's own: were it the file's, each run would ask what a cache still has from the one before.
    """
    prompts = _read(Path(workload.path))
    script.chance("file").shuffle(prompts)
    return _outlines(workload, script, prompts, dues)


def _outlines(
    workload: FromFile, script: Script, prompts: Sequence[_Prompt], dues: Iterator[float | None]
) -> Iterator[Outline]:
    tokens_in = _counter(script.wording)
    outputs = stream(script.seed, "output")
    for number, due_s in zip(count(), dues, strict=False):
        output_tokens = None if workload.output_tokens is None else draw(workload.output_tokens, outputs)
        prompt = prompts[number % len(prompts)]
        yield Outline(
            number,
            None,
            partial(
                _ask, prompt, script.wording, tokens_in, number, due_s, output_tokens, number >= len(prompts)
            ),
        )


def _counter(wording: Wording) -> Callable[[str], int]:
    """Exact with a tokenizer's file; else by characters."""
    if wording.tokenizer_path is not None:
        return open_tokenizer(Path(wording.tokenizer_path))
    return lambda text: max(1, round(len(text) / wording.chars_per_token))


def _ask(
    prompt: _Prompt,
    wording: Wording,
    tokens_in: Callable[[str], int],
    number: int,
    due_s: float | None,
    output_tokens: int | None,
    again: bool,
) -> Ask:
    if output_tokens is None:
        output_tokens = prompt.output_tokens
    if output_tokens is None and prompt.answer is not None:
        output_tokens = max(1, tokens_in(prompt.answer))
    input_tokens = None
    if wording.tokenizer_path is not None and prompt.text is not None:
        input_tokens = tokens_in(prompt.text) + wording.overhead_tokens
    return Ask(
        number=number,
        due_s=due_s,
        text=prompt.text,
        messages=prompt.messages,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        shared_tokens=input_tokens - 1 if again and input_tokens is not None else 0,
    )


# --- reading ------------------------------------------------------------------------------------------


def _read(path: Path) -> list[_Prompt]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadBenchPlan(f"{path} can't be unpacked: {error}", param="path") from error
    except OSError as error:
        raise BadBenchPlan(f"{path} can't be read: {error.strerror}", param="path") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    prompts = _sharegpt(path, data) if data.lstrip().startswith(b"[") else _json_lines(path, data)
    if not prompts:
        raise BadBenchPlan(f"{path} has no prompts", param="path")
    return prompts


class _Said(Struct):
    said_by: str = msgspec.field(name="from", default="")
    value: str = ""


class _Conversation(Struct):
    conversations: list[_Said]


_items = msgspec.json.Decoder(list[msgspec.Raw])
_conversation = msgspec.json.Decoder(_Conversation)


def _sharegpt(path: Path, data: bytes) -> list[_Prompt]:
    """Of each conversation that begins with a question and its answer, these two; the others are left out: the
    published file is cut in pieces, of which some begin in the middle.

    One after the other, since the file has hundreds of megabytes, most of it in turns that nobody needs here.
    """
    prompts, place = [], "it"
    try:
        for number, item in enumerate(_items.decode(data), 1):
            place = f"item {number} of it"
            said = _conversation.decode(item).conversations
            match said[:2]:
                case [_Said("human" | "user", question), _Said("gpt" | "assistant", answer)] if (
                    question and answer
                ):
                    prompts.append(_Prompt(question, None, None, answer))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBenchPlan(
            f"{path}: begins like ShareGPT's JSON, a list of objects with 'conversations', and {place} is none: "
            f"{error}",
            param="path",
        ) from error
    return prompts


class _Message(Struct):
    role: str
    content: str


class _Line(Struct):
    prompt: str | None = None
    messages: list[_Message] | None = None
    output_tokens: int | None = None


_line = msgspec.json.Decoder(_Line)


def _json_lines(path: Path, data: bytes) -> list[_Prompt]:
    return [
        _prompt_of(path, number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()
    ]


def _prompt_of(path: Path, number: int, line: bytes) -> _Prompt:
    def refused(why: Any) -> BadBenchPlan:
        return BadBenchPlan(f"{path}, line {number}: {why}", param="path")

    try:
        entry = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refused(error) from error
    if (entry.prompt is None) == (entry.messages is None):
        raise refused(
            "give either 'prompt', a text, or 'messages', a list of objects with 'role' and 'content'"
        )
    if not (entry.prompt or entry.messages):
        raise refused(f"'{'messages' if entry.prompt is None else 'prompt'}' is empty")
    if entry.output_tokens is not None and entry.output_tokens < 1:
        raise refused(f"'output_tokens' is {entry.output_tokens}: it must be 1 or more")
    messages = None if entry.messages is None else tuple((each.role, each.content) for each in entry.messages)
    return _Prompt(entry.prompt, messages, entry.output_tokens)
