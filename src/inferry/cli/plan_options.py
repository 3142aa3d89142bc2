"""What `inferry plan` is told, from words to a wish. Each mistake names the option, its value and the way out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import get_args

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.planner.architecture import Architecture
from inferry.planner.checkpoints import GGUF_ENGINES
from inferry.planner.load import Slo
from inferry.planner.setup import EngineName
from inferry.planner.wish import SLO_DEFAULT

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")
_SLO_KEYS = {"ttft": "ttft_ms", "itl": "itl_ms", "tpot": "itl_ms"}
DEFAULT_ENGINES: tuple[EngineName, ...] = ("vllm", "sglang", "tensorrt_llm")
"""Those whose speed on GPUs was fitted on measurements of many models."""
ENGINES: dict[str, EngineName] = {name.replace("_", "-"): name for name in get_args(EngineName)}
"""By their names in the deployment file."""
TOKENS_MAX = 10_000_000


def slo_of(text: str | None) -> Slo:
    """`ttft=200ms,itl=40ms`; what it leaves out is not bounded. None: the default, which the answer tells."""
    if text is None:
        return SLO_DEFAULT
    found: dict[str, float] = {}
    for part in text.split(","):
        key, equals, amount = part.strip().partition("=")
        if key not in _SLO_KEYS:
            raise ConfigError(
                f"--slo {text}: '{key}' is not known.{did_you_mean(key, _SLO_KEYS)} Write it as in ttft=200ms,itl=40ms"
            )
        match = _AMOUNT.fullmatch(amount.strip())
        if not equals or match is None or float(match[1]) == 0:
            raise ConfigError(
                f"--slo {text}: '{amount}' is no time above zero. Write it as in ttft=200ms,itl=40ms"
            )
        if match[2] is None:
            raise ConfigError(
                f"--slo {text}: '{amount}' has no unit. Write {key}={amount}ms or {key}={amount}s"
            )
        field = _SLO_KEYS[key]
        if field in found:
            raise ConfigError(f"--slo {text}: {key} is there twice.")
        found[field] = float(match[1]) * (1000 if match[2] == "s" else 1)
    return Slo(ttft_ms=found.get("ttft_ms"), itl_ms=found.get("itl_ms"))


def engines_of(words: Sequence[str] | None) -> tuple[EngineName, ...]:
    """`--engine vllm,sglang` or the option several times; empty where none was named."""
    chosen = []
    if words is not None and not _listed(words):
        raise ConfigError(f"--engine needs a name, of: {', '.join(ENGINES)}")
    for word in _listed(words or ()):
        if word not in ENGINES:
            raise ConfigError(f"--engine {word}: not known to the planner.{did_you_mean(word, ENGINES)}")
        chosen.append(ENGINES[word])
    return tuple(dict.fromkeys(chosen))


def engines_for(arch: Architecture, quant: str) -> tuple[EngineName, ...]:
    """Where none was named: those that are made for the model's files."""
    if arch.made_of:
        return ("ollama", *DEFAULT_ENGINES)
    if arch.native_format == "gguf":
        return ("llamacpp",)
    return GGUF_ENGINES if quant == "gguf" else DEFAULT_ENGINES


def gpus_of(words: Sequence[str] | None) -> tuple[str, ...]:
    if words is not None and not _listed(words):
        raise ConfigError(
            "--gpu needs a name; 'inferry hardware --catalog' has them. Without it: all with a price."
        )
    return tuple(dict.fromkeys(_listed(words or ())))


def positive(option: str, value: float | None) -> None:
    """Raises ConfigError for a number that is not above zero and finite."""
    if value is not None and not (0 < value < math.inf):
        raise ConfigError(f"{option} {value:g}: a number above zero is needed.")


def check_numbers(
    users: int | None,
    rps: float | None,
    input_tokens: int,
    output_tokens: int,
    count: int | None,
    context: int | None,
    budget: float | None,
) -> None:
    """Raises ConfigError for what can't be meant."""
    if users is not None and rps is not None:
        raise ConfigError(
            "--users and --rps: say one of them. --users N: N people who each ask again when answered; "
            "--rps R: R requests per second, whoever sends them."
        )
    for option, value in (
        ("--users", users),
        ("--rps", rps),
        ("--input", input_tokens),
        ("--output", output_tokens),
        ("--count", count),
        ("--context", context),
        ("--budget", budget),
    ):
        positive(option, value)
    for option, value in (("--input", input_tokens), ("--output", output_tokens), ("--context", context)):
        if value is not None and value > TOKENS_MAX:
            raise ConfigError(f"{option} {value}: at most {TOKENS_MAX:,} tokens.")
    if context is not None and context < input_tokens + output_tokens:
        raise ConfigError(
            f"--context {context}: shorter than --input {input_tokens} and --output {output_tokens} together. "
            "Raise it, or leave it out."
        )


def _listed(words: Sequence[str]) -> list[str]:
    return [part.strip() for word in words for part in word.split(",") if part.strip()]
