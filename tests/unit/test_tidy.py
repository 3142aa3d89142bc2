"""House style that a test can hold: what each file must have, and what none may have."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "inferry"
ROOMS = sorted(path.name for path in SRC.iterdir() if path.is_dir() and not path.name.startswith("__"))
LINES_MAX = 400

# A rule that a file may break stands here with the reason. Take a line out as soon as it can go.
LONGER_THAN_LINES_MAX: dict[str, str] = {}
NO_TEST_DOCSTRING: dict[str, str] = {}
# Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "shared"}

# In pieces, so that this file does not hold what it looks for.
FORBIDDEN_WORDS = {
    # The caches in engines' images are below the home of their user, which is root: no machine of ours.
    "a path of one machine": re.compile(r"(?<![\w./~-])/(?:work" + r"|root(?!/\.(?:cache|ollama)\b)|tmp/w)/"),
    "the address of a package registry": re.compile(
        "|".join(
            re.escape(name + "." + domain)
            for name, domain in (
                ("py" + "pi", "org"),
                ("python" + "hosted", "org"),
                ("registry." + "npmjs", "org"),
                ("npmmirror", "com"),
                ("conda", "anaconda.org"),
            )
        )
    ),
}


@cache
def sources() -> tuple[Path, ...]:
    return tuple(sorted(SRC.rglob("*.py")))


@cache
def suites() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "tests").rglob("test_*.py")))


@cache
def tracked() -> tuple[Path, ...]:
    """All files that git knows; none outside a checkout."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(
        path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()
    )


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_check() -> None:
    """The paths of this file are right: it finds the rooms, their files and the tests."""
    assert {"core", "policy", "gateway", "cli"} <= set(ROOMS)
    assert len(sources()) > 50
    assert Path(__file__) in suites()


# --- the product --------------------------------------------------------------------------------------


def test_every_module_has_a_docstring() -> None:
    """Each file says first what it is for."""
    assert [shown(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def first_words(room: str) -> list[str]:
    return (ast.get_docstring(ast.parse((SRC / room / "__init__.py").read_text())) or "-").splitlines()


def test_every_room_opens_with_its_question() -> None:
    """A room's `__init__` begins with the question that the room answers."""
    assert [room for room in ROOMS if "?" not in first_words(room)[0]] == []


def test_every_room_says_what_it_never_does() -> None:
    """A room's `__init__` has a line that begins with 'Never:'."""
    assert [room for room in ROOMS if not any(line.startswith("Never:") for line in first_words(room))] == []


def test_rooms_hold_only_their_docstring_in_init() -> None:
    """Importing a room runs nothing: its `__init__` is a docstring, and there is one way to each name."""
    busy = [room for room in ROOMS if len(ast.parse((SRC / room / "__init__.py").read_text()).body) != 1]
    assert busy == []


def test_files_stay_small() -> None:
    """No file has more lines than a reader keeps in mind; the list of exceptions has no dead lines."""
    long = {shown(path) for path in sources() if len(path.read_text().splitlines()) > LINES_MAX}
    assert long == set(LONGER_THAN_LINES_MAX)


def test_names_say_what_is_inside() -> None:
    """Nothing is called utils, common, helpers or manager."""
    vague = [
        shown(path) for path in sources() if EMPTY_NAMES & set(path.relative_to(SRC).with_suffix("").parts)
    ]
    assert vague == []


def test_no_unfinished_marks() -> None:
    """What is not done is in the issue tracker, not in the code."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [shown(path) for path in sources() if marks.search(path.read_text())] == []


def test_no_assert_on_what_comes_from_outside() -> None:
    """`assert` guards our own invariants: in the files that read clients' or operators' words there is none."""
    outside = [SRC / "gateway" / "decode.py", SRC / "core" / "config_file.py", SRC / "core" / "model_ref.py"]
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in outside
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


# --- tests --------------------------------------------------------------------------------------------


def claims(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def test_every_test_says_what_it_proves() -> None:
    """A test's docstring is the claim that it proves."""
    silent = {
        f"{shown(path)}::{node.name}"
        for path in suites()
        for node in claims(path)
        if not ast.get_docstring(node)
    }
    assert silent == set(NO_TEST_DOCSTRING)


def test_no_test_hides_another() -> None:
    """Two tests of one name in one file or class: the first would never run."""
    hidden = []
    for path in suites():
        tree = ast.parse(path.read_text())
        scopes: list[ast.Module | ast.ClassDef] = [tree]
        scopes += [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for scope in scopes:
            names = [
                node.name for node in scope.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            hidden += [f"{shown(path)}::{name}" for name in {n for n in names if names.count(n) > 1}]
    assert hidden == []


# --- everything that is committed ---------------------------------------------------------------------


@pytest.mark.parametrize("what", FORBIDDEN_WORDS)
def test_committed_text_fits_every_machine(what: str) -> None:
    """No file that is committed names one machine's folders or where its packages came from."""
    if not tracked():
        pytest.skip("this is no git checkout, so what is committed is not known")
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if FORBIDDEN_WORDS[what].search(line):
                found.append(f"{shown(path)}:{number}")
    assert found == []


def test_the_map_names_files_that_exist() -> None:
    """Every path that docs/map.md names is there."""
    page = ROOT / "docs" / "map.md"
    if not page.exists():
        pytest.skip("docs/map.md is not written yet")
    text = page.read_text()
    named = set(re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]*)`", text))
    named |= {f"docs/{link}" for link in re.findall(r"\]\((?!https?:)([\w./-]+)(?:#[\w-]*)?\)", text)}
    assert len(named) > 10
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_the_map_names_every_room() -> None:
    """A new room is on the map."""
    page = ROOT / "docs" / "map.md"
    if not page.exists():
        pytest.skip("docs/map.md is not written yet")
    text = page.read_text()
    assert [room for room in ROOMS if room not in text] == []
