"""A tokenizer from the vocabulary in a GGUF file, for the byte-level BPE ones (`tokenizer.ggml.model: gpt2`).

How a text is split before the merges is not in the file, only the name of the way (`tokenizer.ggml.pre`). The ones
below are those of llama.cpp (src/llama-vocab.cpp), as patterns that the tokenizers library reads; any other name is
refused, since a guess would give wrong counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

from inferry.core.errors import ConfigError
from inferry.models.gguf_header import GgufValue


@dataclass(frozen=True, slots=True)
class _Way:
    patterns: tuple[str, ...]
    whole_tokens_first: bool = False
    """A piece that is a token as it stands is not merged up to it."""
    adds_bos: bool = False
    """Unless `tokenizer.ggml.add_bos_token` says otherwise."""


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# llama.cpp's own wording, by which a letter is one without its combining marks; the model's differs there.
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BY_NAME = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4"), _Way((_GPT2,))),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), _Way((r"\p{N}", _GPT2))
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"),
        _Way((_WORDS + r"|\p{N}{1,3}" + _REST,), whole_tokens_first=True, adds_bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _Way((_WORDS + r"|\p{N}{1,3}" + _REST,))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), _Way((_WORDS + r"|\p{N}" + _REST,))),
    "tekken": _Way((_TEKKEN,), whole_tokens_first=True, adds_bos=True),
}
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
"""Token types that a text is searched for before anything else (llama.cpp's `parse_special`)."""


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    tokenizer: Tokenizer
    special_tokens: dict[str, str]
    adds_bos: bool
    adds_eos: bool
    chat_template: str | None


def gguf_vocabulary(header: Mapping[str, GgufValue], path: Path) -> GgufVocabulary:
    """The tokenizer of a model, from the metadata of its file; some 0.2 s for 50,000 tokens.

    Raises ConfigError for a vocabulary that is not supported, and says which one it is.
    """
    kind, pre = header.get("tokenizer.ggml.model"), str(header.get("tokenizer.ggml.pre", "default"))
    way_out = "Name the model's tokenizer.json in 'prompt_truth.tokenizer', or leave 'prompt_truth' out."
    if kind != "gpt2":
        raise ConfigError(
            f"{path} has a vocabulary of type '{kind}'; only 'gpt2' (byte-level BPE) is supported. {way_out}"
        )
    way = _BY_NAME.get(pre)
    if way is None:
        raise ConfigError(
            f"{path} splits its text by '{pre}', which is not supported ({', '.join(sorted(_BY_NAME))} are). {way_out}"
        )
    tokens = _texts(header.get("tokenizer.ggml.tokens"))
    merges = [tuple(merge.split(" ", 1)) for merge in _texts(header.get("tokenizer.ggml.merges"))]
    try:
        model = BPE(
            {token: number for number, token in enumerate(tokens)},
            [(pair[0], pair[1]) for pair in merges],
            ignore_merges=way.whole_tokens_first,
        )
    except Exception as error:  # the library raises no narrower one
        raise ConfigError(f"{path} has a damaged vocabulary ({error}). {way_out}") from error
    tokenizer = Tokenizer(model)
    steps: list[PreTokenizer] = [Split(Regex(pattern), "isolated") for pattern in way.patterns]
    tokenizer.pre_tokenizer = Sequence([*steps, ByteLevel(add_prefix_space=False, use_regex=False)])
    types = header.get("tokenizer.ggml.token_type")
    special = [
        AddedToken(token, normalized=False, special=True)
        for token, each in zip(tokens, types if isinstance(types, list) else (), strict=False)
        if each in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_special_tokens(special)
    named = {
        f"{name}_token": _token(tokens, header.get(f"tokenizer.ggml.{name}_token_id"))
        for name in ("bos", "eos")
    }
    template = header.get("tokenizer.chat_template")
    return GgufVocabulary(
        tokenizer,
        named,
        adds_bos=bool(header.get("tokenizer.ggml.add_bos_token", way.adds_bos)),
        adds_eos=bool(header.get("tokenizer.ggml.add_eos_token", False)),
        chat_template=template if isinstance(template, str) else None,
    )


def _texts(value: GgufValue | None) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _token(tokens: list[str], number: GgufValue | None) -> str:
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else ""
