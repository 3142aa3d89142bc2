"""What a release consists of: it installs, it is complete, it says what is in it, under which licences."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from release import licences, sbom, version
from release.lock import RUNTIME_LOCK, Pinned, read_lock

from inferry import __version__
from tests.ship.wheel import Built, build, built, clean_venv

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(tmp_path_factory.mktemp("dist"))


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Someone", "-c", "user.email=someone@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- wheel and source ---------------------------------------------------------------------------------


def test_the_wheel_has_every_file_of_the_package(release: Built) -> None:
    """Code and data: each file below src/inferry, and nothing else but its own description."""
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "inferry").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(release.wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    # So that the comparison above is no comparison of nothing.
    assert {"inferry/py.typed", "inferry/render/gateway_lock.txt", "inferry/ledger/redis_limits.lua"} <= names
    assert f"inferry-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_archive_builds_the_same_wheel(release: Built, tmp_path: Path) -> None:
    """Who builds from the source archive gets the same bytes: nothing is missing there, and no tag is needed."""
    with tarfile.open(release.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [again] = build(tmp_path / f"inferry-{__version__}", tmp_path / "out", "-t", "wheel")
    assert again.name == release.wheel.name
    assert again.read_bytes() == release.wheel.read_bytes()


def test_the_source_archive_has_what_checks_it(release: Built) -> None:
    """Tests, locks and Makefile are in it, and no file that git ignores."""
    with tarfile.open(release.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "locks/dev.txt", "tests/ship/test_release.py", "LICENSE", "release/sbom.py"} <= names
    assert [name for name in names if "__pycache__" in name or name.startswith(".venv")] == []


def test_the_wheel_works_in_a_clean_environment(release: Built, tmp_path: Path) -> None:
    """With what its metadata asks for and nothing else, the command starts, says its version, writes a file and
    finds it right."""
    programs = clean_venv(tmp_path / "venv", release.wheel)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "INFERRY_HOME": str(tmp_path / "home")}
    for words, said in (
        (("version",), f"inferry {__version__}\n"),
        (("init",), "Wrote inferry.yaml. Next: inferry up\n"),
        (("config", "check"), "inferry.yaml is right: 1 deployment(s): chat\n"),
    ):
        done = subprocess.run(
            [str(programs / "inferry"), *words],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    where = subprocess.run(
        [str(programs / "python"), "-c", "import inferry; print(inferry.__file__)"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert where.stdout.startswith(str(tmp_path)), where.stdout + where.stderr


# --- version ------------------------------------------------------------------------------------------


def test_a_tag_here_says_the_version() -> None:
    """If this commit is a release, its tag, the source and the change log say the same version."""
    assert version.problems(ROOT) == []


@pytest.mark.parametrize(
    ("text", "tag", "log", "problem"),
    [
        ("1.2.0", "v1.2.0", "## 1.2.0 - 2026-11-24\n", None),
        ("1.2.0", None, "## Unreleased\n", None),
        ("1.2.0", "another-tag", "## Unreleased\n", None),
        ("1.2.0", "v1.3.0", "## 1.2.0\n", "tag 'v1.3.0' is at this commit, and __version__ is '1.2.0'"),
        ("1.2.0", "v1.2.0", "## 1.2.0rc1\n", "CHANGELOG.md has no heading '## 1.2.0'"),
        ("1.2.0-rc1", None, "", "is written '1.2.0rc1' by pip"),
        ("next", None, "", "is not a version"),
    ],
)
def test_a_wrong_tag_is_found(
    tmp_path: Path, text: str, tag: str | None, log: str, problem: str | None
) -> None:
    """A tag that says another version, a change log without it, a version that pip would write otherwise."""
    package = tmp_path / "src" / "inferry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f'__version__ = "{text}"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{log}")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "all")
    if tag is not None:
        git(tmp_path, "tag", tag)
    found = version.problems(tmp_path)
    assert (found == []) if problem is None else (len(found) == 1 and problem in found[0]), found


def test_the_version_is_the_wheels(release: Built) -> None:
    """What is built is named by the source's version, and its metadata says it."""
    with zipfile.ZipFile(release.wheel) as archive:
        text = archive.read(f"inferry-{__version__}.dist-info/METADATA").decode()
    assert f"\nVersion: {version.written()}\n" in text


# --- what is inside -----------------------------------------------------------------------------------


def test_the_list_of_components_is_valid_and_complete() -> None:
    """By CycloneDX's own schema; each package of the lock once, those that every installation needs marked so; made
    again, the same."""
    document = sbom.sbom()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    assert document == sbom.sbom()
    components = {each["name"]: each for each in document["components"]}
    assert len(components) == len(document["components"])
    assert {(each["name"], each["version"]) for each in components.values()} == {
        (each.name, each.version) for each in read_lock(RUNTIME_LOCK)
    }
    assert components["pydantic-core"]["scope"] == "required"  # by way of pydantic
    assert components["psycopg"]["scope"] == "optional"
    needs = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert components["pydantic-core"]["purl"] in needs[components["pydantic"]["purl"]]
    assert components["uvicorn"]["purl"] in needs[f"pkg:pypi/inferry@{__version__}"]


def test_a_broken_list_of_components_is_found() -> None:
    """The schema bites: a component without a name is none."""
    document = sbom.sbom()
    del document["components"][0]["name"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is not None


def test_every_runtime_dependency_has_a_licence_that_may_be() -> None:
    """Each package of the lock that this system gets, by its own metadata; no dead exceptions."""
    found = licences.licences()
    assert len(found) > 50
    assert [each for each in found if each.problem] == []
    assert set(licences.rules()["packages"]) <= {each.name for each in read_lock(RUNTIME_LOCK)}


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("License-Expression: MIT", None),
        ("License-Expression: GPL-3.0-only OR MIT", None),
        ("License-Expression: Apache-2.0 AND BSD-2-Clause", None),
        ("License-Expression: MIT AND GPL-3.0-only", "not allowed"),
        ("License-Expression: (MIT OR BSD-3-Clause) AND GPL-3.0-only", "not allowed"),
        ("License: MIT License", None),
        ("Classifier: License :: OSI Approved :: Apache Software License", None),
        ("License: Proprietary", "'Proprietary' is not allowed"),
        ("License: UNKNOWN", "names no licence"),
        ("Summary: says nothing", "names no licence"),
    ],
)
def test_licences_are_judged(tmp_path: Path, headers: str, problem: str | None) -> None:
    """By expression, word or classifier; one that is not on the list, or not named, is a problem."""
    (tmp_path / "x-1.dist-info").mkdir()
    (tmp_path / "x-1.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{headers}\n"
    )
    about = metadata.PathDistribution(tmp_path / "x-1.dist-info").metadata
    found = licences.judge(Pinned("x", "1", None, ()), licences.said(about), licences.rules())
    assert (found.problem is None) if problem is None else (problem in (found.problem or "")), found


def test_a_changed_licence_is_looked_at_again() -> None:
    """What was allowed by hand was allowed for what the package said then."""
    found = licences.judge(Pinned("psycopg", "4", None, ()), "AGPL-3.0-only", licences.rules())
    assert "now 'AGPL-3.0-only'" in (found.problem or "")
