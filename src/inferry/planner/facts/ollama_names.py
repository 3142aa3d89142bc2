"""What Ollama's names stand for: the repository whose weights a tag's GGUF file was made of, and its quantization."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import msgspec

from inferry.planner.gguf_bits import BITS_OF, split_quantization

_NAME = re.compile(r"[a-z0-9._-]+(:[a-z0-9._-]+)?")
_INSTRUCT = frozenset(["instruct", "it", "chat", "latest"])
_BASE = frozenset(["text", "base"])


@dataclass(frozen=True, slots=True)
class OllamaModel:
    repo: str
    gguf_bits: float
    """Per weight of its file."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    models: dict[str, str]
    quantization: dict[str, str]
    """Of tags whose file is not Q4_K_M."""


def ollama_model(name: str) -> OllamaModel | None:
    """None for names of others, and for tags that are not known: `llama3.1:8b-text-q8_0` is no instruct model.

    `llama3.1`, `llama3.1:latest`, `llama3.1:8b` and `llama3.1:8b-instruct-q4_K_M` are one model.
    """
    said = name.strip().lower()
    if not _NAME.fullmatch(said):
        return None
    family, _, tag = said.partition(":")
    words = re.findall(r"[a-z0-9.]+", tag.replace("_", "-"))
    bits = None
    split = split_quantization(["", *re.findall(r"[a-z0-9]+", tag)])
    if split is not None:
        bits = split[1]
        start = next(at for at, word in enumerate(words) if re.match(r"i?q[1-8]$|b?f(p)?(16|32)$", word))
        words = words[:start]
    elif words[-1:] in (["fp16"], ["bf16"], ["f16"]):
        bits = BITS_OF[words.pop()]
    if _BASE & set(words):
        return None
    size = "-".join(word for word in words if word not in _INSTRUCT)
    key = f"{family}:{size}" if size else family
    repo = _file().models.get(key)
    if repo is None:
        return None
    return OllamaModel(repo, bits or BITS_OF[_file().quantization.get(key, "q4_k_m")])


def ollama_tag(repo: str) -> str | None:
    """The name with a size that Ollama has for `repo`, None where none is known."""
    return _tags().get(repo.lower())


@functools.cache
def _tags() -> Mapping[str, str]:
    return {repo.lower(): tag for tag, repo in sorted(_file().models.items())}


@functools.cache
def _file() -> _File:
    raw = resources.files("inferry.planner.facts").joinpath("ollama_models.json").read_bytes()
    return msgspec.json.decode(raw, type=_File)
