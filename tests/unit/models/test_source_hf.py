"""`hf:` through the real hub client, against a small hub on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import parse_model_ref
from inferry.models.manifest import Fetched
from inferry.models.progress import SilentProgress
from inferry.models.source_hf import fetch_from_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"a": 1}',
    "q4/m-00001-of-00002.gguf": b"GGUF" * 90_000,
    "q4/m-00002-of-00002.gguf": b"tail" * 90_000,
}


class Hub:
    """Speaks as much of a hub's protocol as one pull needs."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.refuse: tuple[int, str] | None = None
        self.broken: set[str] = set()
        self.gets: list[tuple[str, str | None]] = []
        self.tokens: set[str | None] = set()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.tokens.add(handler.headers.get("Authorization"))
        path = handler.path.partition("?")[0]
        if self.refuse is not None:
            status, code = self.refuse
            return self._send(handler, status, b"{}", {"X-Error-Code": code} if code else {})
        if path.startswith("/api/models/"):
            info = {"id": "o/n", "sha": COMMIT, "siblings": [self._sibling(name) for name in self.files]}
            return self._send(handler, 200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        name = path.removeprefix(f"/o/n/resolve/{COMMIT}/")
        body = self.files[name]
        if handler.command == "GET":
            self.gets.append((name, handler.headers.get("Range")))
        if name in self.broken:
            body = body[::-1]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(self.files[name]).hexdigest()}"'}
        return self._send(handler, 200, body, headers)

    def _sibling(self, name: str) -> dict[str, object]:
        body = self.files[name]
        sibling: dict[str, object] = {"rfilename": name, "size": len(body)}
        if name.endswith(".gguf"):
            digest = hashlib.sha256(body).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
        return sibling

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        start = 0
        wanted = handler.headers.get("Range")
        if wanted and handler.command == "GET":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body[start:])


@pytest.fixture
def hub(server: Any) -> Hub:
    hub = Hub()
    server.answers = [hub]
    return hub


@pytest.fixture
def fetch(server: Any, tmp_path: Path) -> Callable[..., Fetched]:
    def run(text: str, progress: Any = None, token: str = "") -> Fetched:
        environ = {"HF_ENDPOINT": server.url, "HF_TOKEN": token}
        ref, progress = parse_model_ref(text), progress or SilentProgress()
        return fetch_from_hub(ref, tmp_path, progress=progress, environ=environ)

    return run


def test_one_file_of_a_repository(hub: Hub, fetch: Callable[..., Fetched], recorder: Any) -> None:
    """Only that file is fetched, at the commit that the revision means; the client's notes don't stay."""
    got = fetch("hf:o/n/config.json@main", recorder)
    assert (got.folder / "config.json").read_bytes() == FILES["config.json"]
    assert (got.main, got.detail) == ("config.json", f"commit {COMMIT}")
    assert [path.name for path in got.folder.iterdir()] == ["config.json"]
    assert [name for name, _ in hub.gets] == ["config.json"]
    assert [phase[1:] for phase in recorder.phases] == [[None, 0, True], [8, 8, True], [8, 8, True]]


def test_a_whole_repository(hub: Hub, fetch: Callable[..., Fetched], recorder: Any) -> None:
    """Without a file, every file comes, each under its own path and with its sha256."""
    got = fetch("hf:o/n", recorder)
    assert got.main is None
    assert {file.path: (got.folder / file.path).read_bytes() for file in got.files} == FILES
    assert {file.path: file.sha256 for file in got.files} == {
        name: hashlib.sha256(body).hexdigest() for name, body in FILES.items()
    }
    total_bytes = sum(map(len, FILES.values()))
    assert [phase[1:] for phase in recorder.phases[1:]] == [[total_bytes, total_bytes, True]] * 2


def test_all_parts_of_a_split_gguf_come(hub: Hub, fetch: Callable[..., Fetched]) -> None:
    """The first part names the model; the engine needs the others beside it."""
    got = fetch("hf:o/n/q4/m-00001-of-00002.gguf")
    assert got.main == "q4/m-00001-of-00002.gguf"
    assert [name for name, _ in hub.gets] == ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"]


def test_files_that_are_here_are_not_fetched_again(
    hub: Hub, fetch: Callable[..., Fetched], recorder: Any
) -> None:
    """A pull that was interrupted between two files goes on with the second."""

    class Stop(Exception):
        pass

    def interrupt(done_bytes: int) -> None:
        if done_bytes > len(FILES["config.json"]):
            raise Stop

    recorder.on_advance = interrupt
    with pytest.raises(Stop):
        fetch("hf:o/n", recorder)
    hub.gets.clear()
    assert len(fetch("hf:o/n").files) == 3
    assert "config.json" not in [name for name, _ in hub.gets]


def test_content_that_the_hub_does_not_vouch_for_is_refused(hub: Hub, fetch: Callable[..., Fetched]) -> None:
    """A file whose sha256 is not the hub's never becomes a model."""
    hub.broken = {"q4/m-00001-of-00002.gguf"}
    with pytest.raises(ModelFetchFailed, match="not as the hub describes it"):
        fetch("hf:o/n")


def test_the_token_is_sent_and_never_shown(hub: Hub, fetch: Callable[..., Fetched]) -> None:
    """HF_TOKEN goes to the hub, and into no message."""
    fetch("hf:o/n/config.json", token="hf_secret")
    assert hub.tokens == {"Bearer hf_secret"}
    hub.refuse = (403, "")
    with pytest.raises(ModelFetchFailed) as caught:
        fetch("hf:o/n/q4/m-00001-of-00002.gguf", token="hf_secret")
    assert "hf_secret" not in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (401, "RepoNotFound", ModelNotFound, "Check the spelling"),
        (403, "GatedRepo", ModelFetchFailed, "Accept its terms"),
        (404, "RevisionNotFound", ModelNotFound, "no branch, tag or commit 'v9'"),
        (404, "RepoNotFound", ModelNotFound, "Check the spelling"),
        (403, "", ModelFetchFailed, "Set HF_TOKEN"),
        (501, "", ModelFetchFailed, "HTTP 501"),
    ],
)
def test_each_refusal_of_the_hub_has_its_words(
    hub: Hub, fetch: Callable[..., Fetched], status: int, code: str, error: type[Exception], words: str
) -> None:
    """Not found, gated, wrong revision, no access, out of order: each says what to do."""
    hub.refuse = (status, code)
    with pytest.raises(error, match=words) as caught:
        fetch("hf:o/n@v9")
    assert type(caught.value) is error


def test_a_file_that_is_not_there_is_answered_with_those_that_are(
    hub: Hub, fetch: Callable[..., Fetched]
) -> None:
    """A wrong file name lists the model files of the repository."""
    with pytest.raises(ModelNotFound, match=r"It has q4/m-00001-of-00002\.gguf, q4/m-00002"):
        fetch("hf:o/n/q8.gguf")


def test_a_hostile_file_name_is_passed_over(hub: Hub, fetch: Callable[..., Fetched], tmp_path: Path) -> None:
    """A hub can't make us write outside the store."""
    hub.files["../../evil.gguf"] = b"evil"
    assert len(fetch("hf:o/n").files) == 3
    assert "../../evil.gguf" not in [name for name, _ in hub.gets]


def test_without_a_network_the_message_names_the_way_out(
    tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    """Nobody there: one sentence, at once."""
    environ = {"HF_ENDPOINT": f"http://127.0.0.1:{unused_port()}"}
    with pytest.raises(ModelFetchFailed, match=r"Check the network.*file:"):
        fetch_from_hub(parse_model_ref("hf:o/n"), tmp_path, progress=SilentProgress(), environ=environ)
