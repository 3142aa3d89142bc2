"""The newcomer's page, typed from top to bottom into one shell, with the built wheel and the real engine."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from inferry import __version__
from tests.ship.wheel import built, clean_venv

from .pages import DOCS, Block, Shown, blocks, shown_commands
from .test_doc_commands import assert_in_order, port, type_in

__all__ = ["port"]  # a fixture
PAGE = DOCS / "first-hour.md"
PORT = "8000"
# What the page installs from an index is linked from the development environment: see clean_venv.
INSTALLED_BY_THE_TEST = ("python3 -m venv ", "pip install ")
MAY_END_WITH = {"inferry bench": (0, 3)}  # 3: this machine was too busy for its figures, as the page says


@dataclass(frozen=True, slots=True)
class Step:
    """A command as it is typed, and where it stands; `shown` is None for what the page has one write into a file."""

    command: str
    shown: Shown | None


def steps(model: Path, port: str) -> list[Step]:
    """The page's blocks in order: its commands, and its deployment file, with this port and the model that is here."""
    found: list[Step] = []
    for block in blocks(PAGE):
        if block.language == "yaml":
            text = re.sub("model: .*", f"model: file:{model}", block.text).replace(PORT, port)
            found.append(Step(f"cat > inferry.yaml <<'END_OF_FILE'\n{text}END_OF_FILE", None))
        else:
            found += [step for shown in _commands(block) if (step := _step(shown, model, port))]
    return found


def _commands(block: Block) -> list[Shown]:
    assert block.language == "console", f"{block.place}: nobody types a block of {block.language}"
    return shown_commands(block)


def _step(shown: Shown, model: Path, port: str) -> Step | None:
    command = shown.command.replace(PORT, port)
    if command.startswith(INSTALLED_BY_THE_TEST):
        return None
    if command == "inferry init":  # not the package index again: the file that is here
        command += f" && sed -i.bak 's|model: .*|model: file:{model}|; s|{PORT}|{port}|' inferry.yaml"
    return Step(command, shown)


def test_the_page_installs_this_version() -> None:
    """The wheel that the page names is the one that is built from this source."""
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"inferry-([\w.]+)-py3-none-any\.whl", text)) == {__version__}


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
def test_the_first_hour_goes_as_the_page_says(tmp_path: Path, sample_model: Path, port: str) -> None:
    """From the page alone: every command succeeds and prints what the page shows, in its order."""
    programs = clean_venv(tmp_path / "inferry-env", built(tmp_path / "dist").wheel, "local")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "INFERRY_HOME": str(tmp_path / "home"),
        "COLUMNS": "110",
        "NO_COLOR": "1",
    }
    # So that nothing of this environment is taken by accident: the page has to put its own on the path.
    assert str(programs) not in environ["PATH"]
    typed = steps(sample_model, port)
    try:
        results = type_in([step.command for step in typed], tmp_path, environ)
    finally:
        subprocess.run(
            [programs / "inferry", "down", "--now"], cwd=tmp_path, env=environ, capture_output=True
        )
    assert len(results) == len(typed)
    for step, (code, output) in zip(typed, results, strict=True):
        ends = next((codes for start, codes in MAY_END_WITH.items() if step.command.startswith(start)), (0,))
        assert code in ends, f"{step.command}: exit code {code}\n{output}"
        if step.shown is not None:
            pieces = step.shown.output.replace(PORT, port).split("...")
            assert_in_order(output, [line for piece in pieces for line in piece.strip().splitlines() if line])
