"""`http(s):` against a real server on loopback, which does everything that servers do wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ConfigError, ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import parse_model_ref
from inferry.models.manifest import Fetched
from inferry.models.progress import SilentProgress
from inferry.models.source_http import fetch_from_url

BODY = bytes(range(256)) * 8000
SHA256 = hashlib.sha256(BODY).hexdigest()


def fetch(url: str, folder: Path, progress: Any = None) -> Fetched:
    return fetch_from_url(parse_model_ref(url), folder, progress=progress or SilentProgress(), environ={})


def test_a_whole_file_arrives_with_its_hash(
    server: Any, send_file: Any, recorder: Any, tmp_path: Path
) -> None:
    """One request brings the file; size, sha256 and progress are those of its bytes."""
    server.answers = [send_file(BODY)]
    got = fetch(f"{server.url}/models/m.gguf?x=1", tmp_path, recorder)
    assert (got.folder / "m.gguf").read_bytes() == BODY
    assert [(file.path, file.size_bytes, file.sha256) for file in got.files] == [
        ("m.gguf", len(BODY), SHA256)
    ]
    assert recorder.phases == [
        ["m.gguf", len(BODY), len(BODY), True],
        ["checking m.gguf", len(BODY), len(BODY), True],
    ]


def test_a_cut_download_goes_on_where_it_broke(server: Any, send_file: Any, tmp_path: Path) -> None:
    """After a cut, the same pull asks only for the rest, under If-Range."""
    server.answers = [send_file(BODY, cut_after=700_000), send_file(BODY)]
    got = fetch(f"{server.url}/m.gguf", tmp_path)
    assert got.files[0].sha256 == SHA256
    second = server.seen[1][2]
    assert re.fullmatch(r"bytes=[1-9]\d*-", second["Range"])
    assert second["If-Range"] == '"v1"'


def test_an_interrupted_pull_is_resumed_by_the_next(
    server: Any, send_file: Any, recorder: Any, tmp_path: Path
) -> None:
    """What a Ctrl-C leaves is used: the next pull asks only for the rest."""

    def interrupt(done_bytes: int) -> None:
        if done_bytes > 500_000:
            raise KeyboardInterrupt

    server.answers = [send_file(BODY)]
    recorder.on_advance = interrupt
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.url}/m.gguf", tmp_path, recorder)
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].sha256 == SHA256
    assert server.seen[1][2]["Range"] != "bytes=0-"


def test_a_server_without_ranges_is_asked_from_the_start(server: Any, send_file: Any, tmp_path: Path) -> None:
    """A server that ignores Range sends all again, and the old part does not stay in front of it."""
    server.answers = [send_file(BODY, ranges=False, cut_after=700_000), send_file(BODY, ranges=False)]
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].sha256 == SHA256


def test_a_server_that_always_cuts_is_given_up(server: Any, send_file: Any, tmp_path: Path) -> None:
    """Attempts are bounded, the message names the way out, and what came is kept."""
    server.answers = [send_file(BODY, cut_after=300_000)]
    with pytest.raises(ModelFetchFailed, match="goes on where it stopped"):
        fetch(f"{server.url}/m.gguf", tmp_path)
    assert len(server.seen) == 4
    assert (tmp_path / "files" / "m.gguf").stat().st_size > 300_000


def test_a_file_that_changed_between_two_pulls_is_fetched_anew(
    server: Any, send_file: Any, tmp_path: Path
) -> None:
    """Parts of two versions are never put together."""
    other = BODY[::-1]
    server.answers = [send_file(BODY, cut_after=700_000), send_file(other, etag='"v2"')]
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].sha256 == hashlib.sha256(other).hexdigest()


def test_without_a_validator_nothing_is_resumed(server: Any, send_file: Any, tmp_path: Path) -> None:
    """When the server can't tell versions apart (no ETag, no date; or a weak ETag), all is fetched again."""
    server.answers = [send_file(BODY, etag='W/"v1"', cut_after=700_000), send_file(BODY, etag=None)]
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].sha256 == SHA256
    assert "Range" not in server.seen[1][2]


def test_a_part_that_no_longer_fits_is_fetched_anew(server: Any, send_file: Any, tmp_path: Path) -> None:
    """A 416 means that our part is longer than the file is now: start over, not fail for ever."""
    server.answers = [send_file(BODY, cut_after=1_500_000), send_file(BODY[:1000])]
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].size_bytes == 1000


def test_a_wrong_part_is_not_taken(server: Any, send_file: Any, tmp_path: Path) -> None:
    """A 206 that begins elsewhere than asked is thrown away, and the file fetched from the start."""

    def wrong_part(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 5-9/{len(BODY)}")
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"wrong")

    server.answers = [send_file(BODY, cut_after=700_000), wrong_part, send_file(BODY)]
    assert fetch(f"{server.url}/m.gguf", tmp_path).files[0].sha256 == SHA256


def test_a_length_that_is_too_great_is_no_success(server: Any, send_file: Any, tmp_path: Path) -> None:
    """A server that announces more than it sends never yields a model."""
    short = send_file(BODY, length=len(BODY) + 100, cut_after=len(BODY), etag=None)
    server.answers = [short]
    with pytest.raises(ModelFetchFailed):
        fetch(f"{server.url}/m.gguf", tmp_path)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, ModelNotFound, "does not exist"),
        (410, ModelNotFound, "does not exist"),
        (403, ModelFetchFailed, "login"),
        (500, ModelFetchFailed, "HTTP 500"),
    ],
)
def test_each_refusal_has_its_words(
    server: Any, tmp_path: Path, status: int, error: type[Exception], words: str
) -> None:
    """A refusal says what it is, and shows neither password nor query of the URL."""

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers = [refuse]
    url = server.url.replace("//", "//user:hunter2@") + "/m.gguf?signature=hush"
    with pytest.raises(error, match=words) as caught:
        fetch(url, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_web_page_is_not_taken_for_a_model(server: Any, send_file: Any, tmp_path: Path) -> None:
    """The link of a page about a model is a common slip; its HTML must not become a model."""
    server.answers = [send_file(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(ModelNotFound, match="web page"):
        fetch(f"{server.url}/m.gguf", tmp_path)


def test_redirects_are_followed(server: Any, send_file: Any, tmp_path: Path) -> None:
    """Download links usually point elsewhere."""

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/there")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers = [redirect, send_file(BODY)]
    assert fetch(f"{server.url}/m.gguf", tmp_path).main == "m.gguf"


def test_the_checksum_behind_the_url_decides(server: Any, send_file: Any, tmp_path: Path) -> None:
    """A right `#sha256=` passes, a wrong one fails and leaves nothing; the server never sees it."""
    server.answers = [send_file(BODY)]
    assert fetch(f"{server.url}/m.gguf#sha256={SHA256}", tmp_path).files[0].sha256 == SHA256
    with pytest.raises(ModelFetchFailed, match=SHA256):
        fetch(f"{server.url}/m.gguf#sha256={'0' * 64}", tmp_path)
    assert not list((tmp_path / "files").iterdir())
    assert all(path == "/m.gguf" for _, path, _ in server.seen)


@pytest.mark.parametrize("url", ["https://h/m#sha256=12", "https://[::1/m#x", "https://[::1/m", "https://h"])
def test_a_malformed_checksum_or_url_is_no_source(url: str) -> None:
    """A checksum that can't be one is an error as early as in the deployment file; so is a URL that is none."""
    with pytest.raises(ValueError, match="is not a model source"):
        parse_model_ref(url)


def test_an_unknown_fragment_is_refused(tmp_path: Path) -> None:
    """A fragment that is no checksum is an error, not ignored."""
    with pytest.raises(ConfigError):
        fetch("https://h/m#part", tmp_path)


def test_nobody_listening_is_said_plainly(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    """Without a server there is one sentence with the way out, and no retry."""
    with pytest.raises(ModelFetchFailed, match="Check the network"):
        fetch(f"http://127.0.0.1:{unused_port()}/m.gguf", tmp_path)
