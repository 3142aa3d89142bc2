"""Keys on a running Inferry with two gateway processes and the admin API on a port: who gets in, who does not."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from .inferry_process import Inferry, Up, wait_for

FILE = """\
gateway: {auth: keys, workers: 2, access_log: true}
admin: {listen: "127.0.0.1:ADMIN"}
deployments:
  chat: {engine: simulated, ttft_ms: 1, itl_ms: 1, aliases: [gpt-4o]}
  secret-model: {engine: simulated, ttft_ms: 1, itl_ms: 1, aliases: [hidden]}
"""
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
QUESTION: dict[str, Any] = {"model": "chat", "messages": MESSAGES, "max_tokens": 3}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Live:
    """A running Inferry, and every key text that was ever shown."""

    inferry: Inferry
    up: Up
    url: str
    admin_url: str
    admin_key: str
    texts: list[str]
    client: httpx.Client

    def new_key(self, **settings: Any) -> str:
        """A key that both gateway processes know."""
        text = self.up.new_key(str(settings.pop("tenant", "acme")), **settings)
        self.texts.append(text)
        wait_for("the key is known", lambda: "invalid_api_key" not in self.codes(text), 5.0)
        return text

    def ask(self, key: str | None = None, **how: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        path = how.pop("path", "/v1/chat/completions")
        return self.client.post(path, headers=headers, json={**QUESTION, **how})

    def codes(self, key: str, count: int = 8) -> Counter[str | None]:
        """What so many requests on connections of their own are answered: an error's code, or None."""
        answers = [self.ask(key) for _ in range(count)]
        return Counter(
            None if answer.status_code == 200 else answer.json()["error"]["code"] for answer in answers
        )


def first_key_in(output: str) -> str:
    [text] = [line.strip() for line in output.splitlines() if line.strip().startswith("inf-")]
    return text


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    inferry = Inferry(tmp_path_factory.mktemp("keys"))
    admin_port = free_port()
    inferry.write(FILE.replace("ADMIN", str(admin_port)))
    with inferry.up() as up:
        url = up.wait_ready()
        admin_key = first_key_in(up.output())
        with httpx.Client(base_url=url, headers={"connection": "close"}, verify=False, timeout=30) as client:
            admin_url = f"http://127.0.0.1:{admin_port}"
            yield Live(inferry, up, url, admin_url, admin_key, [admin_key], client)


# --- who gets in --------------------------------------------------------------------------------------


def test_the_first_key_is_shown_once_and_kept_nowhere(live: Live) -> None:
    """`inferry up` shows the first admin key on its terminal; no file below INFERRY_HOME holds its text, and the
    next start shows none."""
    assert live.up.output().count("first admin key") == 1
    assert files_with(live.inferry.home, live.admin_key) == []
    listed = json.loads(live.inferry.run("keys", "list", "--json").stdout)
    assert [key["scopes"] for key in listed if live.admin_key.startswith(key["prefix"])] == [["admin"]]


def files_with(folder: Path, text: str) -> list[Path]:
    needle = text.encode()
    return [path for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_no_first_key_is_made_where_it_would_be_logged(tmp_path: Path) -> None:
    """In a container the terminal is a log: with INFERRY_FIRST_KEY=none nothing is shown, and there is no key at all."""
    inferry = Inferry(tmp_path)
    inferry.environ["INFERRY_FIRST_KEY"] = "none"
    inferry.write("gateway: {auth: keys}\ndeployments: {chat: {engine: simulated}}\n")
    with inferry.up() as up:
        up.wait_ready()
        assert "inf-" not in up.output()
        assert json.loads(inferry.run("keys", "list", "--json").stdout) == []


@pytest.mark.slow
def test_a_detached_start_shows_the_key_itself(tmp_path: Path) -> None:
    """With --detach the first key is on the terminal of who started it, once, and in no file; the admin API takes it."""
    inferry = Inferry(tmp_path)
    admin_port, port = free_port(), free_port()
    inferry.write(FILE.replace("ADMIN", str(admin_port)))
    started = inferry.run("up", "--detach", "--port", str(port))
    try:
        assert started.returncode == 0, started.stderr
        text = first_key_in(started.stdout)
        assert files_with(tmp_path, text) == []
        answer = httpx.get(f"http://127.0.0.1:{admin_port}/status", headers={"x-api-key": text})
        assert answer.status_code == 200
    finally:
        assert inferry.run("down").returncode == 0
    again = inferry.run("up", "--detach", "--port", str(port))
    try:
        assert "first admin key" not in again.stdout
    finally:
        inferry.run("down")
    assert files_with(tmp_path, text) == []


def test_who_is_refused_and_how(live: Live) -> None:
    """No key, a wrong, disabled, expired one: 401; a wrong scope or deployment: 403. In the shape of whose API it is."""
    good = live.new_key(name="good", deployments=["chat"])
    disabled = live.new_key(name="off")
    live.up.control("POST", "/keys/off/disable")
    expired = live.new_key(name="short", expires="1s")
    admin = live.new_key(name="boss", scopes=["admin"])
    wait_for("they are dead", lambda: None not in live.codes(disabled) + live.codes(expired), 5.0)
    cases = [
        (None, {}, 401, "missing_api_key"),
        ("sk-nonsense", {}, 401, "invalid_api_key"),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), {}, 401, "invalid_api_key"),
        (disabled, {}, 401, "api_key_disabled"),
        (expired, {}, 401, "api_key_expired"),
        (admin, {}, 403, "insufficient_scope"),
        (good, {"model": "secret-model"}, 403, "deployment_not_allowed"),
        (good, {"model": "hidden"}, 403, "deployment_not_allowed"),
    ]
    for key, how, status, code in cases:
        answer = live.ask(key, **how)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert error["type"] == ("authentication_error" if status == 401 else "permission_error")
        assert error.keys() == {"message", "type", "param", "code"}
        theirs = live.ask(key, path="/v1/messages", **how)
        assert theirs.status_code == status
        assert theirs.json() == {
            "type": "error",
            "error": {"type": error["type"], "message": error["message"]},
        }
        assert key is None or key not in answer.text
    assert live.ask(good).status_code == 200


@pytest.mark.slow  # where nothing else runs: it looks at a clock
def test_disabling_is_effective_on_both_processes_within_a_second(live: Live) -> None:
    """From `inferry keys disable` on, over many connections: the last answer comes less than a second later."""
    key = live.new_key(name="leaked")
    assert live.codes(key, 12) == {None: 12}
    assert live.inferry.run("keys", "disable", "leaked").returncode == 0
    disabled_s = last_s = time.monotonic()
    while time.monotonic() - disabled_s < 2.5:
        if None in live.codes(key, 1):
            last_s = time.monotonic()
    assert last_s - disabled_s < 1.0
    assert live.codes(key, 12) == {"api_key_disabled": 12}
    assert live.inferry.run("keys", "enable", "leaked").returncode == 0
    wait_for("it is good again", lambda: live.codes(key) == {None: 8}, 5.0)


def test_rotation_with_grace(live: Live) -> None:
    """Old and new text both work for the grace, then only the new one; without grace the old one is dead soon."""
    old = live.new_key(name="turning")
    rotated = live.inferry.run("keys", "rotate", "turning", "--grace", "3s", "--json")
    new = json.loads(rotated.stdout)["key"]
    live.texts.append(new)
    wait_for("the new one works", lambda: live.codes(new) == {None: 8}, 5.0)
    wait_for("the old one is over", lambda: live.codes(old) == {"api_key_expired": 8}, 10.0)
    assert live.codes(new) == {None: 8}
    newest = json.loads(live.inferry.run("keys", "rotate", "turning", "--json").stdout)["key"]
    live.texts.append(newest)
    wait_for("the newest works", lambda: live.codes(newest) == {None: 8}, 5.0)
    assert None not in live.codes(new)


def test_a_key_knows_only_what_it_may_call(live: Live) -> None:
    """/v1/models, the error for an unknown model and the one for a missing model name no deployment of others."""
    key = live.new_key(name="narrow", deployments=["chat"])
    headers = {"x-api-key": key}
    models = live.client.get("/v1/models", headers=headers)
    assert [model["id"] for model in models.json()["data"]] == ["chat", "gpt-4o"]
    assert live.client.get("/v1/models/gpt-4o", headers=headers).status_code == 200
    pages = [
        live.client.get("/v1/models/secret-model", headers=headers),
        live.ask(key, model="gpt-5"),
        live.ask(key, model="secret-mode"),
        live.client.post("/v1/chat/completions", headers=headers, json={"messages": MESSAGES}),
        live.client.get("/", headers=headers),
        live.client.get("/openapi.json", headers=headers),
    ]
    for page in pages:
        shown = page.text.replace("'secret-model' does not exist", "").replace("'secret-mode' ", "")
        assert "secret-model" not in shown
        assert "hidden" not in shown
    assert pages[0].status_code == 404
    assert "Known: chat, gpt-4o." in pages[1].json()["error"]["message"]
    assert live.client.get("/v1/models").status_code == 401


def test_metrics_need_a_key_except_on_this_machine(live: Live) -> None:
    """A program on this machine needs none; for whom a proxy asks, or a page, a key for looking is needed."""
    assert live.client.get("/metrics").status_code == 200
    assert live.client.get("/metrics", headers={"host": "localhost:1"}).status_code == 200
    for name, value in (
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("via", "1.1 proxy"),
        ("origin", "http://127.0.0.1"),
        ("host", "models.example.com"),
        ("host", "127.0.0.1.example.com"),
        ("host", "[::1"),
    ):
        assert live.client.get("/metrics", headers={name: value}).status_code == 401, (name, value)
    forwarded = {"x-forwarded-for": "203.0.113.9"}
    assert live.client.get("/metrics", headers=forwarded).status_code == 401
    for scope, status in (("inference", 403), ("read-only", 200), ("admin", 200)):
        key = live.new_key(name=f"metrics-{scope}", scopes=[scope])
        answer = live.client.get("/metrics", headers={**forwarded, "x-api-key": key})
        assert answer.status_code == status


# --- the official SDKs --------------------------------------------------------------------------------


async def test_openai_sdk_with_keys(live: Live) -> None:
    """Sync and async, plain and streamed, tools, embeddings and responses, with a key; without, its own classes."""
    key = live.new_key(name="sdk")
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="chat",
            messages=MESSAGES,
            max_tokens=3,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3
        chunks = list(
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=3, stream=True)
        )
        assert chunks[-1].choices[0].finish_reason == "length"
        assert len(client.embeddings.create(model="chat", input=["a", "b"]).data) == 2
        assert client.responses.create(model="chat", input="Hi", max_output_tokens=16).output_text
        assert {model.id for model in client.models.list()} == {"chat", "gpt-4o", "secret-model", "hidden"}
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0) as later:
        stream = await later.chat.completions.create(
            model="chat", messages=MESSAGES, max_tokens=3, stream=True
        )
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "length"
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model="chat", messages=MESSAGES)
        assert refused.value.code == "invalid_api_key"
    narrow = live.new_key(name="sdk-narrow", deployments=["chat"])
    with (
        openai.OpenAI(base_url=f"{live.url}/v1", api_key=narrow, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.chat.completions.create(model="secret-model", messages=MESSAGES)


async def test_anthropic_sdk_with_keys(live: Live) -> None:
    """x-api-key as the SDK sends it: plain, streamed, async; a wrong key raises its own class."""
    key = live.new_key(name="claude")
    said: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]
    with anthropic.Anthropic(base_url=live.url, api_key=key, max_retries=0) as client:
        assert client.messages.create(model="chat", messages=said, max_tokens=3).usage.output_tokens == 3
        with client.messages.stream(model="chat", messages=said, max_tokens=3) as stream:
            assert "".join(stream.text_stream)
    async with anthropic.AsyncAnthropic(base_url=live.url, api_key=key, max_retries=0) as later:
        answer = await later.messages.create(model="chat", messages=said, max_tokens=3)
        assert answer.stop_reason == "max_tokens"
    with (
        anthropic.Anthropic(base_url=live.url, api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="chat", messages=said, max_tokens=3)


def test_chat_takes_the_key_from_the_environment(live: Live) -> None:
    """`inferry chat` without a key says which variable takes one; with it, it answers."""
    refused = live.inferry.run("chat", "Hello")
    assert refused.returncode == 1
    assert "INFERRY_KEY" in refused.stderr
    live.inferry.environ["INFERRY_KEY"] = live.new_key(name="talker")
    try:
        said = live.inferry.run("chat", "Hello", "--max-tokens", "3")
    finally:
        del live.inferry.environ["INFERRY_KEY"]
    assert (said.returncode, said.stdout.strip() != "") == (0, True), said.stderr


# --- the admin API on a port --------------------------------------------------------------------------


def test_the_admin_api_by_tcp(live: Live) -> None:
    """With an admin key: status, keys from creation to removal, reload; read-only may look; nobody else may."""
    look = live.new_key(name="looker", scopes=["read-only"])
    inference = live.new_key(name="caller")
    with httpx.Client(base_url=live.admin_url, verify=False, timeout=30) as client:
        assert client.get("/status").status_code == 401
        assert client.get("/status").json()["error"]["code"] == "missing_api_key"
        assert client.post("/shutdown", json={}).status_code == 401
        for method, path in (("GET", "/status"), ("GET", "/keys"), ("POST", "/reload"), ("POST", "/keys")):
            answer = client.request(method, path, headers={"x-api-key": inference}, json=None)
            assert answer.json()["error"]["code"] == "insufficient_scope"
            answer = client.request(method, path, headers={"x-api-key": look}, json=None)
            assert answer.status_code == (200 if method == "GET" else 403)
        client.headers["authorization"] = f"Bearer {live.admin_key}"
        assert client.get("/status").json()["status"] == "ready"
        made = client.post("/keys", json={"tenant": "far", "name": "remote"})
        text = made.json()["key"]
        live.texts.append(text)
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        wait_for("it works", lambda: live.codes(text) == {None: 8}, 5.0)
        changed = client.patch("/keys/remote", json={"limits": {"requests_per_minute": 5}})
        assert changed.json()["limits"]["requests_per_minute"] == 5
        renewed = client.post("/keys/remote/rotate", json={}).json()["key"]
        live.texts.append(renewed)
        assert client.post("/keys/remote/disable").json()["state"] == "disabled"
        assert client.delete("/keys/remote").status_code in (200, 204)
        assert client.get("/keys/remote").json()["error"]["code"] == "key_not_found"
        reloaded = client.post("/reload")
        assert (reloaded.status_code, reloaded.json()["changes"]) == (200, [])


def test_no_key_text_is_anywhere(live: Live) -> None:
    """After all of the above: no key in any file of INFERRY_HOME, log and journal among them, in what `inferry up`
    said (but the first), or in the arguments of any process."""
    for key in live.texts:
        live.ask(key)
        live.client.get("/v1/models", headers={"x-api-key": key})
    journals = [path for path in live.inferry.home.rglob("*") if "journal" in str(path) and path.is_file()]
    assert journals
    processes = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
    said = live.up.output().replace(live.admin_key, "", 1)
    for key in live.texts:
        secret = key[20:]
        assert files_with(live.inferry.home, secret) == []
        assert secret not in processes
        assert secret not in said
    wait_for(
        "the access log has requests",
        lambda: any('"event":"request"' in path.read_text() for path in live.inferry.home.rglob("*.jsonl")),
    )
