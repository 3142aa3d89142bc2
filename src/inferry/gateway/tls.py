"""HTTPS: certificate and key from files, read again whenever they change.

New connections get the new certificate, open ones keep what they have, and nobody has to restart anything:
certificate services renew every few weeks.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from inferry.core.errors import ConfigError
from inferry.core.gateway_settings import Tls

log = structlog.get_logger()

# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_OUT_OF_DATE = {9: "is not valid yet", 10: "has expired"}

_Signature = tuple[tuple[int, int, int] | None, ...]


def load_tls(settings: Tls) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1. Raises ConfigError that names the file and what is wrong.

    A certificate that is out of date is used and logged: to refuse it would turn a warning in people's clients
    into an outage.
    """
    _check_pem(settings.certificate, "tls.certificate", b"CERTIFICATE-----")
    key = _check_pem(settings.key, "tls.key", b"PRIVATE KEY-----")
    if b"ENCRYPTED" in key:
        raise ConfigError(
            f"tls.key: '{settings.key}' has a password. Write the key without one ('openssl pkey -in OLD -out NEW') "
            "and let only Inferry's user read it."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A password, so that OpenSSL never asks for one on the terminal.
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"tls.key: '{settings.key}' is not the key of the first certificate in '{settings.certificate}'. "
                "The server's own certificate comes first in that file, then the chain."
            ) from error
        raise ConfigError(
            f"tls: can't use '{settings.certificate}' with '{settings.key}': {error.reason or error}."
        ) from error
    problem = _out_of_date(context, Path(settings.certificate).read_text(encoding="latin-1"))
    if problem is not None:
        log.warning("tls_certificate_out_of_date", file=settings.certificate, problem=f"it {problem}")
    return context


def _check_pem(path: str, field: str, mark: bytes) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{field}: can't read '{path}': {error.strerror}.") from error
    if mark not in data:
        other = b"PRIVATE KEY-----" in data or b"CERTIFICATE-----" in data
        hint = " Are the two files swapped?" if other else ""
        what = "certificate" if b"CERT" in mark else "private key"
        raise ConfigError(f"{field}: '{path}' holds no {what} in PEM ('-----BEGIN ...').{hint}")
    return data


def _out_of_date(server: ssl.SSLContext, certificates: str) -> str | None:
    """What the dates of the server's certificate say against using it: the verdict of a client that trusts it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=certificates)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):  # flights of a handshake, and to spare
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return _OUT_OF_DATE.get(error.verify_code)
            except ssl.SSLError:
                return None  # not about dates
    return None


class TlsReload:
    """Keeps `context` up to date with its files. `check` is to be called about once a second."""

    def __init__(self, settings: Tls) -> None:
        """Raises ConfigError if the files can't be used."""
        self._settings = settings
        self._signature = self._sign()
        self._current = load_tls(settings)
        self.context = load_tls(settings)
        """For the server, for as long as it runs."""
        # Not load_cert_chain into the context in use: OpenSSL keeps one certificate per kind of key there, so
        # after a change from RSA to ECDSA many clients would go on getting the old one; and a bad pair of files
        # would leave it half changed.
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def follow(self, settings: Tls) -> None:
        """Other files from now on; `check` loads them."""
        self._settings = settings

    def check(self) -> bool:
        """Load the files if they changed; whether new ones are in use now.

        Files that can't be used change nothing and are logged once.
        """
        signature = self._sign()
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            self._current = load_tls(self._settings)
        except ConfigError as error:
            log.error(
                "tls_reload_failed", problem=error.message, meanwhile="the former certificate is in use"
            )
            return False
        log.info("tls_reloaded", file=self._settings.certificate)
        return True

    def _sign(self) -> _Signature:
        return tuple(_stamp(Path(path)) for path in (self._settings.certificate, self._settings.key))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
