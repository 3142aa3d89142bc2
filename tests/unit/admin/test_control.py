"""The control API and its client, over a real control socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from inferry.admin.client import ControlClient
from inferry.admin.run_record import RunRecord, new_socket_path
from inferry.admin.status import Status
from inferry.core.errors import ConfigError

from .control_stand import Control, running_control

STATUS = Status(
    version="1",
    pid=7,
    file="/f",
    url="http://h:1",
    started=0.0,
    status="ready",
    settled=True,
    generation=1,
    deployments=[],
)


@pytest.fixture
def control() -> Iterator[Control]:
    with running_control(STATUS) as state:
        yield state


def test_status_travels_whole(control: Control) -> None:
    """What the instance says is what the client gets."""
    assert ControlClient(control.record).status() == STATUS


@pytest.mark.parametrize("at_once", [False, True])
def test_shutdown_says_how(control: Control, at_once: bool) -> None:
    """Draining and cutting are told apart."""
    ControlClient(control.record).shut_down(at_once=at_once)
    assert control.shutdowns == [at_once]


@pytest.fixture
def rude() -> Iterator[Callable[[bytes], RunRecord]]:
    """The record of an instance that answers any request with the given bytes and hangs up."""
    path = new_socket_path()
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def answer_once(answer: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    def make(answer: bytes) -> RunRecord:
        threads.append(threading.Thread(target=answer_once, args=(answer,)))
        threads[-1].start()
        return RunRecord(8000, 4711, "http://h:1", "/f", str(path), 0.0)

    yield make
    for thread in threads:
        thread.join()
    listener.close()
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}",
    ],
)
def test_no_proper_answer(rude: Callable[[bytes], RunRecord], answer: bytes) -> None:
    """Whatever goes wrong, the message has the process and a way out."""
    with pytest.raises(ConfigError, match=r"port 8000 \(pid 4711\) does not answer: .*kill 4711"):
        ControlClient(rude(answer)).status()


def test_an_instance_of_another_version(rude: Callable[[bytes], RunRecord]) -> None:
    """After an upgrade, the still running old instance is named as such."""
    with pytest.raises(ConfigError, match=r"pid 4711\) answers unlike this version .* 'inferry down'"):
        ControlClient(rude(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"pid": 7.5}')).status()
