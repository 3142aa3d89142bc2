"""Which engines' programs are on this machine, and in which version, without starting any of them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from inferry import __version__
from inferry.core.errors import ConfigError
from inferry.engines.program import find_program, version_of

PROGRAMS: dict[str, tuple[str, str | None]] = {
    "llamacpp": ("llama-server", None),
    "vllm": ("vllm", "vllm"),
    "sglang": ("sglang", "sglang"),
    "tensorrt-llm": ("trtllm-serve", "tensorrt_llm"),
    "tgi": ("text-generation-launcher", None),
    "transformers": ("transformers", "transformers"),
    "ollama": ("ollama", None),
}
"""Engine to its program, and to the Python distribution that tells its version; None: not one of Python's."""


@dataclass(frozen=True, slots=True)
class EngineHere:
    """An engine that could be started now."""

    where: str
    """Its program, or how Inferry has it."""
    version: str | None
    """None: not known without starting it."""


def engine_here(engine: str, environ: Mapping[str, str]) -> EngineHere | None:
    """The engine on this machine; None: not here, or never anywhere (`openai`)."""
    if engine == "simulated":
        return EngineHere("in Inferry", __version__)
    if engine == "llamacpp" and (embedded := _embedded_llamacpp()) is not None:
        return embedded
    if engine not in PROGRAMS:
        return None
    program, distribution = PROGRAMS[engine]
    try:
        path = find_program(engine, None, program, engine, environ)
    except ConfigError:
        return None
    return EngineHere(path, version_of(path, distribution) if distribution else None)


def _embedded_llamacpp() -> EngineHere | None:
    try:
        return EngineHere("in Inferry (xllamacpp)", importlib.metadata.version("xllamacpp"))
    except importlib.metadata.PackageNotFoundError:
        return None
