"""How many bits a weight takes in a GGUF file, by the word for its quantization that stands in names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

BITS_OF: Mapping[str, float] = {
    "iq1_s": 2.0042,
    "iq1_m": 2.1460,
    "iq2_xxs": 2.3824,
    "iq2_xs": 2.5882,
    "iq2_s": 2.7403,
    "iq2_m": 2.9294,
    "iq3_xxs": 3.2548,
    "iq3_xs": 3.4977,
    "iq3_s": 3.6606,
    "iq3_m": 3.7628,
    "iq4_xs": 4.4597,
    "iq4_nl": 4.6818,
    "q2_k_s": 2.9697,
    "q2_k": 3.1593,
    "q3_k_s": 3.6429,
    "q3_k_m": 3.9960,
    "q3_k_l": 4.2979,
    "q4_0": 4.635,
    "q4_k_s": 4.6672,
    "q4_k_m": 4.8944,
    "q4_1": 5.101,
    "q5_0": 5.569,
    "q5_k_s": 5.5704,
    "q5_k_m": 5.7036,
    "q5_1": 6.037,
    "q6_k": 6.5633,
    "q8_0": 8.5008,
    "f16": 16.0,
    "bf16": 16.0,
    "fp16": 16.0,
    "f32": 32.0,
}
"""Of whole files of Llama 3.1 8B (llama.cpp, tools/quantize/README.md); Q4_0, Q4_1, Q5_0 and Q5_1 by ggml's blocks with the
head in Q6_K, as llama-quantize has it. Other models differ by some percent: their tables are a larger or smaller part."""

USUAL_BITS = BITS_OF["q4_k_m"]
"""What files are taken for whose name tells no quantization: that which is downloaded most."""

_FIRST = re.compile(r"iq[1-4]|q[234568]")
_WIDE = ("f16", "bf16", "fp16", "f32")
_BESIDE = frozenset(["gguf", "ud", "i1", "imat"])
"""Words around a quantization that are none of the model's name: Unsloth's and other makers' ways to choose it."""


def split_quantization(words: Sequence[str]) -> tuple[list[str], float] | None:
    """`words` of a name before its quantization, and bits per weight; for a word that `BITS_OF` hasn't, those of the widest
    with as many bits. None for a name that tells none. "llama3", "8b", "gguf", "q8", "0": ["llama3", "8b"], 8.5008."""
    for start in range(1, len(words)):
        if _FIRST.fullmatch(words[start]):
            return _without(words[:start]), _bits(words[start:])
        if "gguf" in words and words[start] in _WIDE:
            return _without(words[:start]), BITS_OF[words[start]]
    return None


def _bits(words: Sequence[str]) -> float:
    for size in (3, 2):
        said = "_".join(words[:size])
        if said in BITS_OF:
            return BITS_OF[said]
    return max(bits for word, bits in BITS_OF.items() if word.startswith(f"{words[0]}_"))


def _without(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in _BESIDE]
