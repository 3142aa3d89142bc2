"""From GGUF to safetensors: what is refused, and what an end of the program means. The program itself runs in tests/e2e.

Where a test needs another Python, a script of a few lines stands in for it, and says what that one would.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError, ConversionFailed
from inferry.models.convert import convert, read_result, refuse_what_is_no_model
from inferry.models.gguf_header import GgufValue
from inferry.models.progress import SilentProgress

MODEL: dict[str, GgufValue] = {"general.architecture": "llama", "tokenizer.ggml.tokens": ["a", "b"]}


def write_gguf(path: Path) -> Path:
    """A header with a vocabulary of one token, and no weights."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    vocabulary = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1) + text("a")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + vocabulary)
    return path


def stand_in_python(path: Path, script: str) -> Path:
    """A program that is called as Python would be: -I, the program, the source, the folder."""
    path.write_text(
        f"#!{sys.executable}\nimport os, signal, sys\n_, isolated, program, source, folder = sys.argv\n{script}\n"
    )
    path.chmod(0o755)
    return path


def test_what_is_made_appears_whole(tmp_path: Path) -> None:
    """The folder has the files, readable as others of the user are, and nothing unfinished stays beside it."""
    result = {"architecture": "llama", "parameters": 7, "context_tokens": 8}
    python = stand_in_python(
        tmp_path / "python",
        f"fd = os.open(folder + '/model.safetensors', os.O_CREAT, 0o600); print({json.dumps(result)!r})",
    )
    source = write_gguf(tmp_path / "m.gguf")
    folder = tmp_path / "deep" / "made"
    made = convert(source, folder, python, progress=SilentProgress(), environ=os.environ)
    assert (made.architecture, made.parameters, made.context_tokens) == ("llama", 7, 8)
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            'print(\'{"error": "GGUF model with architecture odd is not supported yet."}\'); sys.exit(3)',
            "odd",
        ),
        ("sys.stderr.write('a\\nNo space left on device\\n'); sys.exit(1)", "is full"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "memory runs out"),
        ("sys.stderr.write('x\\nRuntimeError: what is this\\n'); sys.exit(1)", "RuntimeError: what is this"),
        ("pass", "ended with code 0. Its last words: it said nothing"),
    ],
    ids=["refused", "disk", "memory", "broken", "silent"],
)
def test_a_failure_is_told_and_leaves_nothing(tmp_path: Path, script: str, says: str) -> None:
    """Whatever ends the program, the reason is told in a sentence, and no folder is there."""
    source = write_gguf(tmp_path / "m.gguf")
    python = stand_in_python(tmp_path / "python", f"open(folder + '/half', 'w').close(); {script}")
    with pytest.raises(ConversionFailed) as raised:
        convert(source, tmp_path / "made", python, progress=SilentProgress(), environ=os.environ)
    assert says in raised.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"m.gguf", "python"}


def test_a_folder_with_something_in_it_is_kept(tmp_path: Path) -> None:
    """What is there is neither replaced nor mixed with."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine").touch()
    with pytest.raises(ConversionFailed, match="not empty"):
        convert(
            write_gguf(tmp_path / "m.gguf"),
            tmp_path / "made",
            Path(sys.executable),
            progress=SilentProgress(),
            environ=os.environ,
        )
    assert (tmp_path / "made" / "mine").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split.count": 3}, "one of 3 parts"),
        ({"general.type": "adapter"}, "'adapter'"),
        ({"general.architecture": "clip"}, "'clip'"),
    ],
)
def test_what_is_no_whole_model_is_refused(change: dict[str, GgufValue], says: str) -> None:
    """Parts, adapters and projectors are refused before anything is loaded, with what they are."""
    refuse_what_is_no_model(Path("m.gguf"), MODEL)
    with pytest.raises(ConversionFailed, match=says):
        refuse_what_is_no_model(Path("m.gguf"), {**MODEL, **change})


def test_a_model_without_vocabulary_is_refused() -> None:
    """Its weights alone could not be served."""
    with pytest.raises(ConversionFailed, match="no vocabulary"):
        refuse_what_is_no_model(Path("m.gguf"), {"general.architecture": "llama"})


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is no GGUF is told as such."""
    (tmp_path / "m.gguf").write_text("hello, I am text")
    with pytest.raises(ConfigError, match="no GGUF file"):
        convert(
            tmp_path / "m.gguf",
            tmp_path / "made",
            Path(sys.executable),
            progress=SilentProgress(),
            environ=os.environ,
        )


def test_an_environment_that_is_broken_is_told(tmp_path: Path) -> None:
    """A Python that is not there any more is named, with the way to a new one."""
    source, python = write_gguf(tmp_path / "m.gguf"), tmp_path / "gone" / "python"
    with pytest.raises(ConversionFailed, match=r"gone/python can't be run.*engines install"):
        convert(source, tmp_path / "made", python, progress=SilentProgress(), environ=os.environ)


def test_warnings_before_the_result_do_no_harm() -> None:
    """Only the last line on stdout counts: libraries greet there too."""
    said = 'Welcome!\n{"architecture": "llama", "parameters": 1, "context_tokens": null}\n'
    assert read_result(Path("m.gguf"), 0, said, "").context_tokens is None
