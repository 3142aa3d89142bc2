"""Pages of other sites against a gateway without keys."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.gateway_settings import Cors, Gateway
from inferry.gateway.cors import CorsPolicy
from inferry.gateway.cross_site import CrossSiteGuard


def guard(*origins: str, **settings: Any) -> CrossSiteGuard:
    cors = Cors(origins=list(origins)) if origins else None
    return CrossSiteGuard(Gateway(**settings), CorsPolicy(cors))


def refusal(of: CrossSiteGuard, method: bytes = b"POST", **headers: str) -> str | None:
    """The message of the refusal; header names with `_` for `-`."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    error = of.refusal(method, given)
    return None if error is None else error.message


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "x", "evil.example", "api.example:8000"])
def test_programs_are_never_bothered(host: str) -> None:
    """Without Origin and Sec-Fetch-Site, whatever Host says is fine: proxies pass all kinds of names on."""
    assert refusal(guard(), host=host, user_agent="Mozilla/5.0") is None
    assert refusal(guard()) is None


def test_a_page_of_another_site_is_refused_with_the_way_out() -> None:
    """An Origin that is neither the gateway's own nor allowed: 403, naming page and setting."""
    error = guard().refusal(b"POST", [(b"host", b"127.0.0.1:8000"), (b"origin", b"https://evil.example")])
    assert error is not None
    assert (error.status, error.code) == (403, "cross_site_request")
    assert "https://evil.example" in error.message
    assert "gateway.cors.origins" in error.message
    assert "gateway.auth: keys" in error.message


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:9000", "null", "file://", ""])
def test_another_port_of_this_machine_is_another_site(origin: str) -> None:
    """Other local pages, files and sandboxed frames are refused like any other site."""
    assert refusal(guard(), host="localhost:8000", origin=origin) is not None


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST:8000", "app.localhost:8000"]
)
def test_the_gateways_own_pages_are_fine(host: str) -> None:
    """A page that came from the gateway may ask it, by whichever loopback name."""
    assert refusal(guard(), host=host, origin=f"http://{host.lower()}", sec_fetch_site="same-origin") is None


def test_a_name_that_came_to_mean_loopback_is_refused() -> None:
    """DNS rebinding: Origin and Host agree, but the gateway on loopback has no such name."""
    message = refusal(guard(), host="evil.example:8000", origin="http://evil.example:8000")
    assert message is not None
    assert "evil.example:8000" in message
    assert "rebinding" in message
    for lookalike in ("localhost.evil.example", "127.0.0.1.evil.example", "[::1].evil", ""):
        assert refusal(guard(), host=lookalike, sec_fetch_site="same-origin", method=b"GET"), lookalike


def test_allowed_origins_pass_and_their_names_are_known() -> None:
    """What gateway.cors.origins names may ask, also through a proxy that serves it by that name."""
    allowing = guard("https://chat.example")
    assert refusal(allowing, host="127.0.0.1:8000", origin="https://chat.example") is None
    assert refusal(allowing, method=b"GET", host="chat.example", sec_fetch_site="same-origin") is None
    assert refusal(allowing, host="127.0.0.1:8000", origin="https://evil.example") is not None
    assert refusal(guard("*"), host="127.0.0.1:8000", origin="null") is None


def test_a_cross_site_request_without_origin_is_refused_unless_it_opens_as_a_page() -> None:
    """Images and scripts of other sites are refused; a link that somebody follows is not."""
    images = {"host": "127.0.0.1:8000", "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
    link = images | {"sec_fetch_mode": "navigate"}
    assert refusal(guard(), method=b"GET", **images) is not None
    assert refusal(guard(), method=b"GET", **link) is None
    assert refusal(guard(), method=b"POST", **link) is not None


def test_with_keys_there_is_nothing_to_defend() -> None:
    """A gateway with keys asks nobody where he comes from."""
    assert not guard(auth="keys").active
    assert refusal(guard(auth="keys"), host="evil.example", origin="https://evil.example") is None


def test_on_a_wide_address_only_the_origin_counts() -> None:
    """Which names a machine has in a network is not known here: its own pages pass by any of them."""
    wide = guard(listen="0.0.0.0:8000", allow_unauthenticated=True)
    assert refusal(wide, host="box.lan:8000", origin="http://box.lan:8000") is None
    assert refusal(wide, host="box.lan:8000", origin="https://evil.example") is not None


def test_what_is_remembered_is_bounded() -> None:
    """Host headers without end leave no memory behind, and a giant one is simply not known."""
    one = guard()
    for number in range(1000):
        assert refusal(one, host=f"{number}.localhost", sec_fetch_site="none") is None
    assert len(one._known) <= 256
    assert refusal(one, host="x" * 60_000 + ".localhost", sec_fetch_site="none") is not None
