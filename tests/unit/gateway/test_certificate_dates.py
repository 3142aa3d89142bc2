"""When a certificate ends is read from its file, whoever made it."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from inferry.core.clock import wall_s_of
from inferry.gateway.certificate_dates import not_after_wall_s


def _make(folder: Path, *more: str) -> str:
    """A certificate by the openssl program."""
    path = folder / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(folder / "server.key"), "-out", str(path), *more],
        check=True,
        capture_output=True,
    )
    return path.read_text()


@pytest.mark.parametrize("days", [1, 90, 20_000])
def test_the_end_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    """Years after 2049 are written in another way, and are read too."""
    pem = _make(tmp_path, "-days", str(days))
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(tmp_path / "server.pem")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert not_after_wall_s(pem) == ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))


def test_the_first_certificate_counts(tmp_path: Path) -> None:
    """The server's own stands before its chain."""
    first, second = _make(tmp_path, "-days", "10"), _make(tmp_path, "-days", "100")
    assert (
        not_after_wall_s("a name\n" + first + second) == not_after_wall_s(first) != not_after_wall_s(second)
    )


def test_what_is_no_certificate_has_no_end(tmp_path: Path) -> None:
    """Nothing is raised: a scrape must not fail for it."""
    pem = _make(tmp_path, "-days", "10")
    body = pem.splitlines()
    for text in ("", "words", pem[:200], "\n".join([body[0], body[1], body[-1]]), pem.replace("M", "A", 3)):
        found = not_after_wall_s(text)
        assert found is None or found > wall_s_of("1950-01-01")
    assert not_after_wall_s(pem[:200]) is None
    assert not_after_wall_s("\n".join([body[0], body[1], body[-1]])) is None
