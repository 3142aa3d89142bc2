"""Writes a GGUF model as a folder with safetensors, by the program gguf_to_safetensors.py in an environment that can."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inferry.core.errors import ConversionFailed
from inferry.models import gguf_to_safetensors
from inferry.models.disk import disk_full_text
from inferry.models.gguf_header import GgufValue, read_gguf_header
from inferry.models.progress import Progress, phase

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Converted:
    """What was made."""

    architecture: str
    parameters: int
    context_tokens: int | None


def convert(
    source: Path, folder: Path, python: Path, *, progress: Progress, environ: Mapping[str, str]
) -> Converted:
    """`folder`, made of the GGUF file `source` by `python`'s transformers; whole, or not there.

    Takes some seconds and twice as many bytes of memory as the model has parameters. Raises ConversionFailed, and
    ConfigError for what is no GGUF file.
    """
    refuse_what_is_no_model(source, read_gguf_header(source))
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionFailed(
            f"{folder} is there already and not empty. Name a new folder, or delete it first."
        )
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(parents=True)
        with phase(progress, f"converting {source.name} to bfloat16", None):
            converted = _run(source, unfinished, python, progress, environ)
        for file in unfinished.iterdir():  # some are written for their owner alone, and engines may be others
            file.chmod(unfinished.stat().st_mode & 0o666)
        unfinished.rename(folder)
    except OSError as error:
        raise ConversionFailed(
            f"{folder} could not be written: {error.strerror or error}. Name another folder."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return converted


def refuse_what_is_no_model(source: Path, header: Mapping[str, GgufValue]) -> None:
    """Raises ConversionFailed for GGUF files that hold less than one whole language model."""
    kind = header.get("general.type", "model")
    parts = header.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise ConversionFailed(
            f"{source} is one of {parts} parts. Join them first: llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )
    if kind != "model" or header.get("general.architecture") == "clip":
        raise ConversionFailed(
            f"{source} is no language model but a part for one (its kind is '{kind}', its architecture "
            f"'{header.get('general.architecture')}'). Name the model's own file."
        )
    if "tokenizer.ggml.tokens" not in header:
        raise ConversionFailed(f"{source} has no vocabulary, and a model without one can't be served.")


def _run(
    source: Path, folder: Path, python: Path, progress: Progress, environ: Mapping[str, str]
) -> Converted:
    # -I: nothing of ours, nor of the current folder, may be imported there.
    argv = [str(python), "-I", gguf_to_safetensors.__file__, str(source.absolute()), str(folder)]
    env = {**environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log = folder.with_name(f"{folder.name}.log")
    try:
        with log.open("wb") as sink:
            process = _start(argv, env, sink)
        with process:
            try:
                said = _wait(process, progress)
            except BaseException:
                process.kill()
                raise
        return read_result(source, process.returncode, said, log.read_text(errors="replace"))
    finally:
        log.unlink(missing_ok=True)


def _start(argv: list[str], env: Mapping[str, str], sink: BinaryIO) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, text=True
        )
    except OSError as error:
        raise ConversionFailed(
            f"{argv[0]} can't be run ({error.strerror}). Install its environment again: 'inferry engines remove', then "
            "'inferry engines install'."
        ) from error


def _wait(process: subprocess.Popen[str], progress: Progress) -> str:
    while True:
        try:
            return process.communicate(timeout=POLL_S)[0]
        except subprocess.TimeoutExpired:
            progress.advance(0)


def read_result(source: Path, code: int, said: str, log: str) -> Converted:
    """What the program's end means. Raises ConversionFailed."""
    try:
        result = json.loads(said.strip().rpartition("\n")[2])
    except ValueError:
        result = {}
    if code == 0 and result:
        return Converted(**result)
    if code == gguf_to_safetensors.EXIT_REFUSED and "error" in result:
        raise ConversionFailed(f"transformers can't convert {source}: {result['error']}")
    if "No space left on device" in log:
        raise ConversionFailed(disk_full_text(source))
    if code == -9:
        raise ConversionFailed(
            f"The conversion of {source} was killed, as the system does when memory runs out: it takes two bytes "
            "for each parameter of the model."
        )
    last = (log.strip().splitlines() or ["it said nothing"])[-1]
    raise ConversionFailed(f"The conversion of {source} ended with code {code}. Its last words: {last}")
