"""The store: what is found, listed, checked and removed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import ModelRef, ModelSource, parse_model_ref
from inferry.models.manifest import Fetched, StoredFile, StoredModel, fingerprint
from inferry.models.progress import Progress, SilentProgress
from inferry.models.pull import pull
from inferry.models.store import ModelStore, shown_ref
from inferry.testing.manual_clock import ManualClock


class FakeSource:
    """Brings two small files for any model."""

    files: Mapping[str, bytes] = {"a.gguf": b"first", "sub/b.gguf": b"second"}

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, ref: ModelRef, unfinished: Path, *, progress: Progress, environ: Mapping[str, str]
    ) -> Fetched:
        self.calls += 1
        folder = unfinished / "files"
        for name, body in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(body)
        files = tuple(
            StoredFile(name, len(body), hashlib.sha256(body).hexdigest()) for name, body in self.files.items()
        )
        return Fetched(folder, files, None if ref.file is None else "a.gguf", "commit 1")


def bring(store: ModelStore, text: str, source: FakeSource | None = None) -> StoredModel:
    source = source or FakeSource()
    return pull(
        parse_model_ref(text),
        store,
        progress=SilentProgress(),
        environ={},
        clock=ManualClock(wall_s=1000.0),
        fetches=dict.fromkeys(ModelSource, source),
    )


def test_a_pulled_model_is_found_by_another_store(store: ModelStore) -> None:
    """Everything is on disk: a second process sees the same record, and pulls nothing again."""
    source = FakeSource()
    pulled = bring(store, "hf:o/n/a.gguf@main", source)
    other = ModelStore(store.folder.parent)
    assert other.find(parse_model_ref("hf:o/n/a.gguf@main")) == pulled
    assert bring(other, "hf:o/n/a.gguf@main", source) == pulled
    assert source.calls == 1
    assert pulled.path.read_bytes() == b"first"
    assert (pulled.size_bytes, pulled.detail, pulled.fetched_wall_s) == (11, "commit 1", 1000.0)


def test_a_whole_repository_is_a_folder(store: ModelStore) -> None:
    """Without a file the path is the folder, and the checksum that of the list of files."""
    pulled = bring(store, "hf:o/n")
    assert (pulled.path / "sub" / "b.gguf").read_bytes() == b"second"
    assert pulled.sha256 == fingerprint(pulled.files)
    assert (
        pulled.sha256
        == hashlib.sha256(
            b"".join(f"{file.sha256}  {file.path}\n".encode() for file in pulled.files)
        ).hexdigest()
    )


def test_a_damaged_model_is_not_found_but_listed_and_replaced(store: ModelStore) -> None:
    """A missing or short file makes a model absent for `find`; `verify` says why; a pull repairs it."""
    pulled = bring(store, "hf:o/n/a.gguf")
    pulled.path.write_bytes(b"f")
    ref = parse_model_ref("hf:o/n/a.gguf")
    assert store.find(ref) is None
    assert [model.ref for model in store.list()] == ["hf:o/n/a.gguf"]
    assert "1 bytes instead of 5" in store.verify(pulled, SilentProgress())[0]
    assert bring(store, "hf:o/n/a.gguf").path.read_bytes() == b"first"
    assert store.verify(pulled, SilentProgress()) == []


def test_verify_sees_a_changed_byte(store: ModelStore) -> None:
    """Same size, other content: only the checksum can tell."""
    pulled = bring(store, "hf:o/n")
    (pulled.path / "sub" / "b.gguf").write_bytes(b"secons")
    assert "sha256 differs" in store.verify(pulled, SilentProgress())[0]


def test_remove_deletes_the_model_and_what_was_unfinished(store: ModelStore) -> None:
    """After a removal nothing of the model is left, and a second removal says so."""
    pulled = bring(store, "hf:o/n/a.gguf")
    ref = parse_model_ref("hf:o/n/a.gguf")
    (store.unfinished(ref) / "part").write_bytes(b"x")
    assert store.remove(ref) == pulled
    assert not pulled.path.exists()
    assert not list((store.folder / ".unfinished").iterdir())
    with pytest.raises(ModelNotFound, match="inferry models list"):
        store.remove(ref)


def test_discard_unfinished_tells_what_it_freed(store: ModelStore) -> None:
    """The rest of a broken-off pull can be deleted without a model."""
    ref = parse_model_ref("hf:o/n/a.gguf")
    assert store.discard_unfinished(ref) == 0
    (store.unfinished(ref) / "part").write_bytes(b"12345")
    assert store.discard_unfinished(ref) == 5
    assert store.discard_unfinished(ref) == 0


def test_secrets_of_a_url_are_not_kept(store: ModelStore) -> None:
    """Password and query stay out of every file and name; the model is removed by what `list` shows."""
    text = "https://user:hunter2@host/m.gguf?sig=hush"
    bring(store, text)
    for path in store.folder.rglob("*"):
        assert "hunter2" not in str(path)
        assert "hush" not in str(path)
        assert not path.is_file() or b"hush" not in path.read_bytes()
    shown = store.list()[0].ref
    assert shown == "https://host/m.gguf?..." == shown_ref(parse_model_ref(text))
    store.remove(parse_model_ref(shown))
    assert store.list() == []


def test_two_urls_that_look_alike_are_not_removed_by_guess(store: ModelStore) -> None:
    """When the shown form fits two models, none is deleted."""
    bring(store, "https://host/m.gguf?v=1")
    bring(store, "https://host/m.gguf?v=2")
    with pytest.raises(ModelNotFound, match="whole URL"):
        store.remove(parse_model_ref("https://host/m.gguf?..."))
    assert len(store.list()) == 2


def test_a_local_file_is_used_where_it_is(store: ModelStore, tmp_path: Path) -> None:
    """`file:` is never copied, listed, hashed or deleted; when it is missing, the message names it."""
    path = tmp_path / "m.gguf"
    with pytest.raises(ModelNotFound, match=r"m\.gguf does not exist"):
        bring(store, f"file:{path}")
    path.write_bytes(b"local")
    found = bring(store, f"file:{path}")
    assert (found.path, found.size_bytes, found.sha256) == (path, 5, None)
    assert store.list() == []
    with pytest.raises(ModelNotFound, match="your own"):
        store.remove(parse_model_ref(f"file:{path}"))
    assert path.exists()


def test_a_store_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    """A home that is no folder gives one message with the way out, not an OSError."""
    (tmp_path / "home").write_text("")
    with pytest.raises(ModelFetchFailed, match="disk failed"):
        bring(ModelStore(tmp_path / "home"), "hf:o/n")


def test_foreign_things_in_the_store_are_passed_over(store: ModelStore) -> None:
    """A folder without our manifest, or with a broken or newer one, is neither listed nor found."""
    pulled = bring(store, "hf:o/n/a.gguf")
    (store.folder / "notes").mkdir()
    manifest: Any = pulled.folder.parent / "manifest.json"
    for text in ("{", "[]", '{"format": 99}'):
        manifest.write_text(text)
        assert store.list() == []
        assert store.find(parse_model_ref("hf:o/n/a.gguf")) is None
    assert bring(store, "hf:o/n/a.gguf").path.exists()
