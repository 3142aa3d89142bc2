"""HTTPS over real sockets: certificates that are good, bad, and changed while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
import uvicorn

from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Tls
from inferry.gateway.tls import TlsReload, load_tls

Peer = dict[str, Any]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path) -> Tls:
    return Tls(certificate=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))


def issue(authority: trustme.CA, to: Tls, name: str, **options: Any) -> None:
    """Write a certificate for 127.0.0.1 whose common name is `name`, and its key, over what was there."""
    leaf = authority.issue_cert("127.0.0.1", common_name=name, **options)
    put(to.certificate, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    put(to.key, leaf.private_key_pem.bytes())


def put(path: str, data: bytes) -> None:
    """Replace a file as certificate services do: a new file takes the name."""
    fresh = Path(f"{path}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


def remove(path: str) -> None:
    Path(path).unlink()


async def hello(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """uvicorn, as the gateway runs it, with a context of ours. Gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        hello, loop="none", lifespan="off", log_config=None, ws="none",
        ssl_context_factory=lambda config, default: context,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(5):
            while not server.started:
                await asyncio.sleep(0.005)
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True


class Client:
    """One HTTPS connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def name(self) -> str:
        """The common name of the certificate that the server showed."""
        peer: Peer = self._writer.get_extra_info("peercert")
        return str(next(value for part in peer["subject"] for key, value in part if key == "commonName"))

    async def ask(self) -> bytes:
        self._writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        return await self._reader.readexactly(5)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(port: int, authority: trustme.CA, **limits: Any) -> AsyncIterator[Client]:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    for name, value in limits.items():
        setattr(trust, name, value)
    client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=trust))
    try:
        yield client
    finally:
        await client.close()


async def test_https_is_served_with_our_context(authority: trustme.CA, files: Tls) -> None:
    """A client that trusts the authority gets its answer, and the app knows that it came by https."""
    issue(authority, files, "one")
    async with serving(TlsReload(files).context) as port, connected(port, authority) as client:
        assert await client.ask() == b"https"
        assert client.name == "one"


async def test_old_protocols_are_refused(authority: trustme.CA, files: Tls) -> None:
    """TLS 1.1 gets no connection; 1.2 and 1.3 do."""
    issue(authority, files, "one")
    async with serving(TlsReload(files).context) as port:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            async with connected(port, authority, maximum_version=version) as client:
                assert await client.ask() == b"https"
    assert load_tls(files).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("kinds", [("RSA", "RSA"), ("RSA", "ECDSA"), ("ECDSA", "RSA")])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_certificate_is_used_without_a_restart(
    authority: trustme.CA, files: Tls, kinds: tuple[str, str], version: ssl.TLSVersion
) -> None:
    """After the files change, new connections see the new certificate, also if its key is of another kind; open
    ones live on."""
    issue(authority, files, "one", key_type=trustme.KeyType[kinds[0]])
    reload = TlsReload(files)
    async with serving(reload.context) as port, connected(port, authority, maximum_version=version) as old:
        assert await old.ask() == b"https"
        assert not reload.check()
        issue(authority, files, "two", key_type=trustme.KeyType[kinds[1]])
        assert reload.check()
        async with connected(port, authority, maximum_version=version) as new:
            assert await new.ask() == b"https"
            assert (old.name, new.name) == ("one", "two")
        assert await old.ask() == b"https"
        assert not reload.check()


async def test_other_files_are_taken_up(authority: trustme.CA, files: Tls, tmp_path: Path) -> None:
    """When the deployment file names others, they are in use from the next look on."""
    issue(authority, files, "one")
    others = Tls(certificate=str(tmp_path / "other.pem"), key=str(tmp_path / "other.key"))
    issue(authority, others, "two")
    reload = TlsReload(files)
    async with serving(reload.context) as port:
        reload.follow(others)
        assert reload.check()
        async with connected(port, authority) as client:
            assert await client.ask() == b"https"
            assert client.name == "two"


async def test_bad_new_files_change_nothing_and_are_told_once(authority: trustme.CA, files: Tls) -> None:
    """While the new pair does not fit, is garbage or is gone, the former certificate serves; when it fits, it is used."""
    issue(authority, files, "one")
    reload = TlsReload(files)
    async with serving(reload.context) as port:
        with structlog.testing.capture_logs() as logs:
            # The new certificate is there before its key is: the two are never replaced in one step.
            leaf = authority.issue_cert("127.0.0.1", common_name="two")
            put(files.certificate, leaf.cert_chain_pems[0].bytes())
            assert [reload.check(), reload.check(), reload.check()] == [False] * 3
            assert [entry["event"] for entry in logs] == ["tls_reload_failed"]
            put(files.certificate, b"garbage")
            assert not reload.check()
            remove(files.certificate)
            assert [reload.check(), reload.check()] == [False] * 2
            assert len(logs) == 3
            async with connected(port, authority) as client:
                assert await client.ask() == b"https"
                assert client.name == "one"
            put(files.certificate, leaf.cert_chain_pems[0].bytes())
            put(files.key, leaf.private_key_pem.bytes())
            assert reload.check()
            assert logs[-1]["event"] == "tls_reloaded"
            assert "PRIVATE KEY" not in str(logs)
        async with connected(port, authority) as client:
            assert client.name == "two"


async def test_a_client_that_speaks_no_tls_harms_nobody(authority: trustme.CA, files: Tls) -> None:
    """Plain HTTP or garbage on the HTTPS port closes that connection only."""
    issue(authority, files, "one")
    async with serving(TlsReload(files).context) as port:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 100, b"\x00"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP/1.1 200" not in await reader.read()
            writer.close()
        async with connected(port, authority) as client:
            assert await client.ask() == b"https"


# --- files that can't be used -------------------------------------------------------------------------


def why_not(files: Tls) -> str:
    with pytest.raises(ConfigError) as caught:
        load_tls(files)
    return caught.value.message


def test_missing_files_are_named(authority: trustme.CA, files: Tls) -> None:
    """The message has the setting, the path and the reason."""
    message = why_not(files)
    assert "tls.certificate" in message
    assert files.certificate in message
    assert "No such file" in message
    issue(authority, files, "one")
    Path(files.key).unlink()
    assert f"tls.key: can't read '{files.key}'" in why_not(files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_key_is_named(authority: trustme.CA, files: Tls) -> None:
    """A key without permission to read it says so."""
    issue(authority, files, "one")
    Path(files.key).chmod(0)
    assert "Permission denied" in why_not(files)


def test_wrong_contents_are_told_apart(authority: trustme.CA, files: Tls) -> None:
    """No PEM, swapped files, a key of another certificate, a key with a password: each has its own words."""
    issue(authority, files, "one")
    certificate, key = Path(files.certificate).read_bytes(), Path(files.key).read_bytes()
    put(files.certificate, b"\x30\x82\x01\x00")
    assert "holds no certificate in PEM" in why_not(files)
    put(files.certificate, key)
    put(files.key, certificate)
    assert "swapped" in why_not(files)
    put(files.certificate, certificate)
    put(files.key, authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    assert "is not the key of the first certificate" in why_not(files)
    put(files.key, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----\n")
    assert "has a password" in why_not(files)
    put(files.key, b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    message = why_not(files)
    assert files.certificate in message
    assert files.key in message


@pytest.mark.parametrize(
    ("days_from", "days_to", "words"), [(-20, -10, "has expired"), (5, 10, "not valid yet")]
)
def test_a_certificate_out_of_date_is_a_warning(
    authority: trustme.CA, files: Tls, days_from: int, days_to: int, words: str
) -> None:
    """It is used, since some clients may not mind, and the log says what is wrong."""
    now = datetime.datetime.now(datetime.UTC)
    issue(
        authority, files, "old", not_before=now + datetime.timedelta(days=days_from),
        not_after=now + datetime.timedelta(days=days_to),
    )  # fmt: skip
    with structlog.testing.capture_logs() as logs:
        load_tls(files)
    [entry] = logs
    assert entry["log_level"] == "warning"
    assert entry["file"] == files.certificate
    assert words in entry["problem"]


def test_a_good_certificate_is_loaded_without_a_word(authority: trustme.CA, files: Tls) -> None:
    """No warning where there is nothing to warn of: alone, with its chain, and with the key in the same file."""
    for extra in (b"", authority.cert_pem.bytes()):
        issue(authority, files, "one")
        put(files.certificate, Path(files.certificate).read_bytes() + extra)
        with structlog.testing.capture_logs() as logs:
            load_tls(files)
            together = Path(files.key).read_bytes() + Path(files.certificate).read_bytes()
            put(files.certificate, together)
            load_tls(files)
        assert logs == []


def test_a_socket_is_free_again(authority: trustme.CA, files: Tls) -> None:
    """Loading files leaves no descriptor behind, however often they change."""
    issue(authority, files, "one")
    reload = TlsReload(files)
    before = socket.socket()
    number = before.fileno()
    before.close()
    for index in range(5):
        issue(authority, files, f"n{index}")
        assert reload.check()
    after = socket.socket()
    try:
        assert after.fileno() == number
    finally:
        after.close()
