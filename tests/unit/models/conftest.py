"""Small wheels, a loopback file server with faults, and a progress that remembers."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferry.models.store import ModelStore


def _record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture
def make_wheel() -> Callable[..., Path]:
    """Builds `tiny_model-<version>-py3-none-any.whl` in a folder, with a RECORD unless told otherwise."""

    def make(
        folder: Path, members: dict[str, bytes], *, version: str = "1.0", record: str | None = None
    ) -> Path:
        info = f"tiny_model-{version}.dist-info"
        members = {
            **members,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if record is None:
            record = "".join(
                f"{name},sha256={_record_digest(body)},{len(body)}\n" for name, body in members.items()
            )
        path = folder / f"tiny_model-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in members.items():
                archive.writestr(name, body)
            archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
        return path

    return make


@dataclass
class Recorder:
    """A Progress that remembers its phases as [label, total, done, finished]."""

    phases: list[list[Any]] = field(default_factory=list)
    on_advance: Callable[[int], None] = lambda new_bytes: None

    def start(self, label: str, total_bytes: int | None) -> None:
        self.phases.append([label, total_bytes, 0, False])

    def advance(self, new_bytes: int) -> None:
        self.phases[-1][2] += new_bytes
        self.on_advance(self.phases[-1][2])

    def finish(self) -> None:
        self.phases[-1][3] = True


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "home")


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class FileServer:
    """Answers each request by the next of `answers` (the last one stays), and remembers what came."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.seen.append((self.command, self.path, dict(self.headers.items())))
            answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            answer(self)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state = FileServer(f"http://127.0.0.1:{running.server_address[1]}")
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def send_file() -> Callable[..., Answer]:
    """An Answer that sends `body`: with or without Range, cut after some bytes, under a wrong length."""

    def make(
        body: bytes,
        *,
        ranges: bool = True,
        cut_after: int | None = None,
        length: int | None = None,
        etag: str | None = '"v1"',
        headers: dict[str, str] | None = None,
    ) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            start = 0
            wanted = handler.headers.get("Range")
            if ranges and wanted and handler.headers.get("If-Range") == etag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body) > 0:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206 if start else 200)
            if start:
                handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            handler.send_header("Content-Length", str(len(body) - start if length is None else length))
            if etag:
                handler.send_header("ETag", etag)
            for name, value in (headers or {}).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body[start : len(body) if cut_after is None else start + cut_after])
            if cut_after is not None:
                handler.close_connection = True

        return answer

    return make


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """A loopback port where nobody listens."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
