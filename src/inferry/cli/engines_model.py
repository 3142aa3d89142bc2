"""Whether the files of a model are of the kind that an engine loads: told by their first bytes and their names."""

from __future__ import annotations

from pathlib import Path

_DESCRIPTIONS = ("config.json", "params.json")
"""What a folder of weights begins with: transformers' form, and Mistral's own."""


def what_is_wrong(engine: str, path: Path) -> tuple[str, str] | None:
    """Why `engine`, one that Inferry keeps weights for, can't load what is at `path`, and the way out.

    None: nothing is seen to be wrong.
    """
    if engine == "llamacpp":
        if _is_gguf(path):
            return None
        return (
            f"its model {path} is no GGUF file",
            "name one; a folder of safetensors is for vllm or transformers",
        )
    if path.is_dir():
        if any((path / name).is_file() for name in _DESCRIPTIONS):
            return None
        return f"its model {path} has no config.json", "name the folder that has it, beside the weights"
    if _is_gguf(path):
        return f"its model {path} is a GGUF file, and {engine} wants a folder", "take engine: llamacpp for it"
    return f"its model {path} is a file, and {engine} wants a folder", "name the folder with config.json"


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False
