"""Keys over the control API, and the gate in front of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocketDisconnect
from fastapi.testclient import TestClient

from inferry.admin.api import make_control_app
from inferry.admin.auth import KeyGate
from inferry.admin.status import Status
from inferry.core.api_key import Scope
from inferry.core.errors import LedgerUnavailable
from inferry.ledger.database import open_database
from inferry.ledger.key_text import TEXT_PATTERN
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore
from inferry.testing.manual_clock import ManualClock

from .control_stand import no_reload
from .test_control import STATUS


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[KeyStore]:
    database = open_database(f"sqlite:///{tmp_path}/ledger.sqlite")
    database.migrate()
    yield KeyStore(database, clock)
    database.close()


@pytest.fixture
def app(store: KeyStore, clock: ManualClock) -> FastAPI:
    async def status() -> Status:
        return STATUS

    return make_control_app(
        status=status, shut_down=lambda at_once: None, reload=no_reload, pid=7, keys=store, clock=clock
    )


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as opened:
        yield opened


def opens(store: KeyStore, text: str) -> bool:
    return any(key.prefix == text[:16] and not key.disabled for key in store.all())


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_key_through_its_life(client: TestClient, store: KeyStore) -> None:
    """Made, listed, shown, changed, disabled, enabled, rotated, removed; its text only where it is made."""
    answer = client.post(
        "/keys",
        json={
            "tenant": "acme",
            "name": "ci",
            "scopes": ["inference", "read-only"],
            "deployments": ["chat"],
            "limits": {"requests_per_minute": 60},
            "priority": "high",
            "expires": "1d",
        },
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    text = made.pop("key")
    assert re.fullmatch(TEXT_PATTERN, text)
    assert made == {
        "id": made["id"],
        "tenant": "acme",
        "name": "ci",
        "state": "active",
        "prefix": text[:16],
        "scopes": ["inference", "read-only"],
        "deployments": ["chat"],
        "limits": {"requests_per_minute": 60},
        "priority": "high",
        "created_at": "2026-01-01 00:00:00Z",
        "expires_at": "2026-01-02 00:00:00Z",
    }
    at = f"/keys/{made['id']}"
    assert client.get("/keys").json() == [made]
    assert client.get("/keys?tenant=other").json() == []
    assert client.get(at).json() == client.get("/keys/ci").json() == made
    made |= {"deployments": None, "limits": {"choices_max": 1}, "expires_at": None}
    change = {
        "deployments": None,
        "limits": {"requests_per_minute": None, "choices_max": 1},
        "expires": "never",
    }
    assert client.patch(at, json=change).json() == made
    assert client.post(f"{at}/disable").json() == made | {"state": "disabled"}
    assert client.post(f"{at}/enable").json() == made
    rotated = client.post(f"{at}/rotate", json={"grace": "1h"}).json()
    assert (opens(store, text), opens(store, rotated["key"])) == (True, True)
    again = client.post(f"{at}/rotate").json()
    assert (opens(store, rotated["key"]), opens(store, again["key"])) == (False, True)
    assert client.delete(at).json()["id"] == made["id"]
    assert client.get("/keys").json() == []


def test_a_patch_takes_only_what_is_sent(client: TestClient) -> None:
    """Defaults of fields that were not sent change nothing."""
    made = client.post("/keys", json={"tenant": "acme", "scopes": ["admin"], "priority": "low"}).json()
    made.pop("key")
    assert client.patch("/keys/acme-1", json={}).json() == made
    assert client.patch("/keys/acme-1", json={"name": "x"}).json() == made | {"name": "x"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/keys/nobody", None, 404, "key_not_found", "no key 'nobody'"),
        ("POST", "/keys", {}, 400, "invalid_request", "tenant: Field required"),
        ("POST", "/keys", {"tenant": "a", "tenants": 1}, 400, "invalid_request", "tenants: Extra inputs"),
        (
            "POST",
            "/keys",
            {"tenant": "a", "scopes": ["x"]},
            400,
            "invalid_request",
            "scopes.0: Input should be",
        ),
        ("POST", "/keys", {"tenant": "a b"}, 400, "bad_key_setting", "'a b' can't be a tenant's name"),
        (
            "POST",
            "/keys",
            {"tenant": "a", "limits": {"choices_max": 0}},
            400,
            "invalid_request",
            "limits.choices_max",
        ),
        ("POST", "/keys", {"tenant": "a", "expires": "soon"}, 400, "bad_key_setting", "'soon' is no time"),
        ("POST", "/keys", {"tenant": "acme", "name": "acme-1"}, 409, "key_name_taken", "has a key called"),
        ("POST", "/keys/acme-1/rotate", {"grace": "x"}, 400, "bad_key_setting", "'x' is no time span"),
        ("POST", "/nowhere", {}, 404, "unknown_url", "There is no /nowhere"),
        ("PUT", "/keys", {}, 405, "method_not_allowed", "/keys does not take PUT"),
    ],
)
def test_errors(
    client: TestClient, method: str, path: str, body: object, status: int, code: str, words: str
) -> None:
    """All as one object with a stable code, and a message that names the field and the value."""
    client.post("/keys", json={"tenant": "acme"})
    error = error_of(client.request(method, path, json=body), status)
    assert error["code"] == code
    assert words in error["message"]


def test_a_store_that_is_away(client: TestClient, store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 in the same form: it may pass."""

    def away(tenant: str | None = None) -> None:
        raise LedgerUnavailable("The store is away.")

    monkeypatch.setattr(store, "list", away)
    assert error_of(client.get("/keys"), 503)["code"] == "ledger_unavailable"


def test_without_a_store_there_are_no_keys() -> None:
    """An instance that asks for no keys has no such path."""

    async def status() -> Status:
        return STATUS

    with TestClient(
        make_control_app(status=status, shut_down=lambda at_once: None, reload=no_reload, pid=7)
    ) as client:
        assert error_of(client.get("/keys"), 404)["code"] == "unknown_url"


# --- the gate -----------------------------------------------------------------------------------------


@pytest.fixture
def gated(app: FastAPI, store: KeyStore, clock: ManualClock) -> Iterator[tuple[TestClient, KeyRing]]:
    keyring = KeyRing()
    with TestClient(KeyGate(app, keyring, clock)) as client:
        yield client, keyring


def with_scope(store: KeyStore, keyring: KeyRing, scope: Scope) -> dict[str, str]:
    """The header of a new key that the ring knows."""
    made = store.create("ops", scopes=frozenset({scope}))
    keyring.replace(store.all())
    return {"Authorization": f"Bearer {made.text}"}


def test_the_gate_asks_for_a_key(gated: tuple[TestClient, KeyRing]) -> None:
    """Each path, known or not, is 401 without one, in our form and with HTTP's own hint."""
    client, _ = gated
    for method, path in (("GET", "/status"), ("GET", "/keys"), ("POST", "/shutdown"), ("GET", "/nowhere")):
        answer = client.request(method, path)
        assert error_of(answer, 401)["code"] == "missing_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_key_stays_out(gated: tuple[TestClient, KeyRing]) -> None:
    """And is not repeated in the answer."""
    client, _ = gated
    answer = client.get("/keys", headers={"x-api-key": "inf-" + "a" * 61})
    assert error_of(answer, 401)["code"] == "invalid_api_key"
    assert "a" * 9 not in answer.text


@pytest.mark.parametrize(
    ("scope", "get", "post"), [("admin", 200, 201), ("read-only", 200, 403), ("inference", 403, 403)]
)
def test_scopes_at_the_gate(
    gated: tuple[TestClient, KeyRing], store: KeyStore, scope: Scope, get: int, post: int
) -> None:
    """admin may do everything, read-only may look, inference may do nothing here."""
    client, keyring = gated
    headers = with_scope(store, keyring, scope)
    answers = (
        client.get("/keys", headers=headers),
        client.post("/keys", headers=headers, json={"tenant": "a"}),
    )
    assert tuple(answer.status_code for answer in answers) == (get, post)
    for answer in answers:
        if answer.status_code == 403:
            assert error_of(answer, 403)["code"] == "insufficient_scope"


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE"])
def test_read_only_means_get(gated: tuple[TestClient, KeyRing], store: KeyStore, method: str) -> None:
    """Every method that could change something is refused before the application sees it."""
    client, keyring = gated
    headers = with_scope(store, keyring, "read-only")
    assert (
        error_of(client.request(method, "/keys/ops-1", headers=headers), 403)["code"] == "insufficient_scope"
    )
    assert store.get("ops-1").tenant == "ops"


def test_x_api_key_at_the_gate(gated: tuple[TestClient, KeyRing], store: KeyStore) -> None:
    """The other header works as well."""
    client, keyring = gated
    text = with_scope(store, keyring, "admin")["Authorization"].removeprefix("Bearer ")
    assert client.get("/status", headers={"x-api-key": text}).json()["pid"] == 7


def test_no_way_beside_the_gate(gated: tuple[TestClient, KeyRing]) -> None:
    """A WebSocket is closed before the application hears of it."""
    client, _ = gated
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/status"):
        pass
    assert caught.value.code == 1008


def test_each_change_is_heard_of_before_its_answer(store: KeyStore, clock: ManualClock) -> None:
    """Whoever holds the answer may use a new key, or rely on an old one being dead."""
    heard: list[int] = []

    async def on_change() -> None:
        heard.append(sum(not key.disabled for key in store.all()))

    async def status() -> Status:
        return STATUS

    app = make_control_app(
        status=status, shut_down=lambda at_once: None, reload=no_reload, pid=7,
        keys=store, on_keys_change=on_change, clock=clock,
    )  # fmt: skip
    with TestClient(app) as client:
        id = client.post("/keys", json={"tenant": "acme"}).json()["id"]
        assert heard == [1]
        client.get(f"/keys/{id}")
        client.get("/keys")
        assert heard == [1]
        client.post(f"/keys/{id}/disable")
        assert heard == [1, 0]
        client.post(f"/keys/{id}/enable")
        client.patch(f"/keys/{id}", json={"name": "other"})
        client.post(f"/keys/{id}/rotate")
        client.delete(f"/keys/{id}")
        assert len(heard) == 6
        client.delete(f"/keys/{id}")
        assert len(heard) == 6
