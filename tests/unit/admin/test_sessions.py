"""Who is signed in at the dashboard, and what a browser may do with a cookie."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from inferry.admin.auth import Gate, KeyGate
from inferry.admin.dashboard.pages import make_pages_router
from inferry.admin.error_pages import install_error_pages
from inferry.admin.sessions import IDLE_S, SESSIONS_MAX
from inferry.admin.visitors import TokenDoor
from inferry.core.api_key import Scope
from inferry.ledger.database import open_database
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore
from inferry.testing.manual_clock import ManualClock


class Stand:
    """An application behind the gate, with a store of keys."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        database = open_database(f"sqlite:///{folder}/keys.sqlite")
        database.migrate()
        self.store = KeyStore(database, self.clock)
        self.ring = KeyRing()
        app = FastAPI()
        install_error_pages(app)
        app.include_router(make_pages_router())

        @app.get("/status")
        @app.get("/logs/x")
        @app.get("/gateway/v1/models")
        def look() -> dict[str, str]:
            return {"is": "well"}

        @app.post("/restart")
        def change() -> Response:
            return Response("done")

        self.gate = KeyGate(app, self.ring, self.clock)
        self.client = TestClient(self.gate, base_url="http://testserver")

    def key(self, scope: Scope) -> str:
        """The text of a new key."""
        made = self.store.create("ops", scopes=frozenset({scope}))
        self.ring.replace(self.store.all())
        return made.text

    def sign_in(self, scope: Scope = "admin") -> str:
        """The second secret of a new session, whose cookie the client has."""
        answer = self.client.post("/session", json={"key": self.key(scope)})
        assert answer.status_code == 200
        csrf: str = answer.json()["csrf"]
        return csrf


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_the_cookie_is_for_this_site_and_no_script(stand: Stand) -> None:
    """HttpOnly, SameSite=Strict, of this port alone; the key's text is nowhere in it."""
    text = stand.key("admin")
    answer = stand.client.post("/session", json={"key": text})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert cookie.startswith("inferry_session_80=")
    assert text not in cookie + answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() | {"csrf": ""} == {"name": "ops/ops-1", "may_change": True, "csrf": ""}


def test_https_marks_it_secure(stand: Stand) -> None:
    """Then it never travels in clear."""
    client = TestClient(stand.gate, base_url="https://testserver")
    assert "Secure" in client.post("/session", json={"key": stand.key("admin")}).headers["set-cookie"]


def test_a_change_needs_the_second_secret(stand: Stand) -> None:
    """A page of another site can send the cookie, but does not know what stands in the header."""
    csrf = stand.sign_in()
    assert stand.client.get("/status").json() == {"is": "well"}
    for headers in ({}, {"x-inferry-csrf": "guessed"}):
        refused = stand.client.post("/restart", headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site_request")
        assert stand.client.delete("/session", headers=headers).status_code == 403
    assert stand.client.post("/restart", headers={"x-inferry-csrf": csrf}).text == "done"


def test_programs_need_no_session(stand: Stand) -> None:
    """With a key in its header nothing else is asked for."""
    headers = {"authorization": f"Bearer {stand.key('admin')}"}
    assert stand.client.post("/restart", headers=headers).text == "done"


def test_who_only_looks(stand: Stand) -> None:
    """A read-only key sees figures; engines' logs and prompts at the gateway's cost are not for it."""
    csrf = stand.sign_in("read-only")
    assert stand.client.get("/session").json()["may_change"] is False
    assert stand.client.get("/status").status_code == 200
    for path in ("/logs/x", "/gateway/v1/models"):
        assert stand.client.get(path).json()["error"]["code"] == "insufficient_scope"
    assert stand.client.post("/restart", headers={"x-inferry-csrf": csrf}).status_code == 403


def test_an_inference_key_does_not_sign_in(stand: Stand) -> None:
    """It is for requests."""
    refused = stand.client.post("/session", json={"key": stand.key("inference")})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("end", ["sign out", "revoke", "disable", "idle"])
def test_how_a_session_ends(stand: Stand, end: str) -> None:
    """By hand, with its key, or after a time without use; afterwards the cookie opens nothing."""
    csrf = stand.sign_in()
    if end == "sign out":
        assert stand.client.delete("/session", headers={"x-inferry-csrf": csrf}).status_code == 204
        assert not stand.client.cookies
    elif end == "revoke":
        stand.store.remove("ops-1")
    elif end == "disable":
        stand.store.set_disabled("ops-1", True)
    else:
        stand.clock.advance(IDLE_S + 1)
    stand.ring.replace(stand.store.all())
    assert stand.client.get("/status").status_code == 401
    assert stand.client.get("/session").json() == {"name": "", "may_change": False, "csrf": ""}
    assert len(stand.gate.sessions) == 0


def test_sessions_are_bounded(stand: Stand) -> None:
    """The one that was used longest ago goes first."""
    text = stand.key("admin").encode()
    first, _ = stand.gate.sessions.open(text)
    second, _ = stand.gate.sessions.open(text)
    stand.clock.advance(1)
    stand.gate.sessions.find(first)
    for _ in range(SESSIONS_MAX - 1):
        stand.gate.sessions.open(text)
    assert len(stand.gate.sessions) == SESSIONS_MAX
    stand.gate.sessions.find(first)
    with pytest.raises(Exception, match="Nobody is signed in"):
        stand.gate.sessions.find(second)


@pytest.mark.parametrize("body", ["", "no JSON", '{"token": "x"}', '{"key": 7}', '{"key": "a", "more": 1}'])
def test_a_sign_in_that_is_none(stand: Stand, body: str) -> None:
    """Told what is expected, and nothing of what was sent."""
    refused = stand.client.post("/session", content=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "key")


def test_a_sign_in_has_a_size(stand: Stand) -> None:
    """Nobody fills the memory before they have shown a key."""
    assert stand.client.post("/session", content=b"x" * 5000).status_code == 413


def test_session_knows_its_methods(stand: Stand) -> None:
    """And the gate answers for it alone."""
    assert stand.client.put("/session").status_code == 405


def test_files_are_for_all(stand: Stand) -> None:
    """Somebody who has not signed in gets the page on which to do that, under a strict policy."""
    page = stand.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    tag = {"if-none-match": page.headers["etag"]}
    assert stand.client.get("/", headers=tag).status_code == 304
    assert stand.client.get("/ui/app.js").headers["content-type"].startswith("text/javascript")
    assert stand.client.post("/").status_code == 401


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "__init__.py"])
def test_no_other_files(stand: Stand, name: str) -> None:
    """Only those that belong to the dashboard."""
    answer = stand.client.get(f"/ui/{name}")
    assert answer.status_code == 404
    assert "Never:" not in answer.text


def test_the_token_of_the_command(stand: Stand) -> None:
    """`inferry dashboard` lets in whoever has its address, and nobody else."""
    app = FastAPI()
    app.get("/status")(lambda: {"is": "well"})
    client = TestClient(Gate(app, TokenDoor("right"), stand.clock))
    assert client.get("/status").status_code == 401
    assert client.post("/session", json={"key": "wrong"}).status_code == 401
    assert client.post("/session", json={"key": ""}).status_code == 401
    assert client.post("/session", json={"key": "right"}).json()["name"] == "this machine"
    assert client.get("/status").status_code == 200
