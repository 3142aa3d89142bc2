"""The many ways to write one model's name: repositories, Ollama's tags, quantized copies, chat variants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .architecture import WeightFormat
from .gguf_bits import USUAL_BITS, split_quantization

_FORMATS: tuple[tuple[tuple[str, ...], WeightFormat], ...] = (
    (("gptq", "int4"), "gptq"),
    (("gptq", "4bit"), "gptq"),
    (("gptq", "int8"), "int8"),
    (("awq", "int4"), "awq"),
    (("bnb", "4bit"), "bnb4"),
    (("quantized", "w8a8"), "int8"),
    (("quantized", "w4a16"), "int4"),
    (("fp8", "dynamic"), "fp8"),
    (("fp8", "static", "pertensor"), "fp8"),
    (("fp8", "block"), "fp8_block"),
    (("nvfp4", "fp4"), "nvfp4"),
    (("nvfp4",), "nvfp4"),
    (("mxfp4",), "mxfp4"),
    (("fp4",), "nvfp4"),
    (("fp8",), "fp8"),
    (("awq",), "awq"),
    (("gptq",), "gptq"),
    (("w8a8",), "int8"),
    (("int8",), "int8"),
    (("w4a16",), "int4"),
    (("int4",), "int4"),
    (("gguf",), "gguf"),
)
"""How repositories end, longest first."""
_FP8_BY_BLOCKS = ("qwen", "zai-org", "zhipuai", "deepseek-ai", "minimaxai", "stepfun-ai")
"""Organizations whose own FP8 repositories scale blocks of 128 x 128, as DeepSeek-V3 does (arXiv 2412.19437, 3.3.2)."""
_NO_CHANGE = frozenset(
    ["instruct", "it", "chat", "hf", "base", "bf16", "fp16", "latest", "resharded", "class", "pt", "qat"]
)


@dataclass(frozen=True, slots=True)
class NameReading:
    """One way to read a name: the key to look up, and what had to be left out for it."""

    key: str
    format: WeightFormat | None = None
    tuned: bool = False
    """Words before the name of the model were left out: a fine-tuned copy, judging by its name."""
    gguf_bits: float | None = None
    """Per weight of a GGUF file."""


def name_keys(name: str) -> tuple[str, ...]:
    """Under which keys a known model is filed: its whole name, and that without the words that change nothing.

    Of the last part of a repository's name: `Qwen/Qwen2.5-7B` and `qwen2.5:7b` have the key `qwen2.5.7b`.
    """
    words = _words(name)
    return _key(words), _key(_plain(words))


def readings(name: str) -> Iterator[NameReading]:
    """From the most literal to the freest: the name, without what changes nothing, without its format, its tails."""
    words = _words(name)
    stripped, stored, bits = _format_of(words, name)
    yield NameReading(_key(words))
    yield NameReading(_key(_plain(words)))
    if stored is not None:
        yield NameReading(_key(stripped), stored, gguf_bits=bits)
        yield NameReading(_key(_plain(stripped)), stored, gguf_bits=bits)
    if "(" in name:
        for reading in readings(name.partition("(")[0]):
            if not reading.tuned:
                yield reading
    # Fine-tuned copies carry their parent's name at the end: Hermes-3-Llama-3.1-8B.
    for start in range(1, len(stripped) - 1):
        yield NameReading(_key(_plain(stripped[start:])), stored, tuned=True, gguf_bits=bits)


def _key(words: list[str]) -> str:
    """Between two digits a dot stays, so that opt-1.3b is not opt-13b."""
    return re.sub(r"(?<![0-9])\.|\.(?![0-9])", "", ".".join(words))


def _words(name: str) -> list[str]:
    last = name.strip().lower().removeprefix("hf:").split("@")[0].rstrip("/").rsplit("/", 1)[-1]
    words = re.findall(r"[a-z0-9]+", last)
    return words[1:] if words[:1] == ["meta"] and len(words) > 1 else words


def _plain(words: list[str]) -> list[str]:
    """Without words that change neither sizes nor formats; a name of nothing else stays as it is."""
    return [word for word in words if word not in _NO_CHANGE] or words


def _format_of(words: list[str], name: str) -> tuple[list[str], WeightFormat | None, float | None]:
    """The words before it, the format, and of a GGUF file its bits per weight: Ollama's tags and llama.cpp's files end
    in such as q4_K_M."""
    split = split_quantization(words)
    if split is not None:
        return split[0], "gguf", split[1]
    for ending, stored in _FORMATS:
        size = len(ending)
        for start in range(1, len(words) - size + 1):
            if tuple(words[start : start + size]) == ending:
                org = name.lower().removeprefix("hf:").split("/")[0] if "/" in name else ""
                by_blocks = stored == "fp8" and size == 1 and org in _FP8_BY_BLOCKS
                left = words[:start] + _tail(words[start + size :])
                bits = USUAL_BITS if stored == "gguf" else None
                return left, "fp8_block" if by_blocks else stored, bits
    return words, None, None


def _tail(words: list[str]) -> list[str]:
    """Of what follows a format, nothing but dates belongs to the model's name."""
    return [word for word in words if re.fullmatch(r"2[4-6][01][0-9]", word)]
