"""From one deployment file to the next: what changes, what it takes, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.config_file import LoadedFile, parse_text
from inferry.core.file_change import SHOWN_CHARS_MAX, SHOWN_KEYS_MAX, Effect, compare

ENVIRON = {"DB": "postgresql://me:s3cret@db/inferry", "KEY": "sk-s3cret", "PORT": "8000"}

BASE = """
gateway: {listen: "127.0.0.1:8000"}
tenants: {acme: {weight: 1}}
deployments:
  chat: {engine: simulated, replicas: 2, ttft_ms: 10}
  outside: {engine: openai, model: m, endpoints: ["http://h:1/v1"], api_key: "${KEY}"}
"""


def loaded(text: str, **environ: str) -> LoadedFile:
    return parse_text(text, Path("inferry.yaml"), {**ENVIRON, **environ})


def effects(old: str, new: str) -> dict[str, str]:
    change = compare(loaded(old), loaded(new))
    return {each.name: each.effect.value for each in change.deployments}


def with_chat(**keys: object) -> str:
    rest = "".join(f", {key}: {value}" for key, value in keys.items())
    return f"deployments:\n  chat: {{engine: simulated{rest}}}\n"


def test_the_same_file_changes_nothing() -> None:
    """A file that says the same in other words is no change."""
    same = BASE.replace("ttft_ms: 10", "ttft_ms: 10.0, itl_ms: 5, routing: {policy: least_connections}")
    change = compare(loaded(BASE), loaded(same))
    assert change.is_empty
    assert change.summary() == ["nothing changed"]
    assert change.refusal() is None


@pytest.mark.parametrize(
    "keys",
    [
        {"replicas": 3},
        {"aliases": "[gpt]"},
        {"routing": "{policy: round_robin}"},
        {"queue": "{waiting_max: 5}"},
        {"limits": "{requests_per_minute: 5}"},
        {"price": "{prompt_per_mtok: 1}"},
        {"health": "{interval_s: 3}"},
        {"restart": "{crashes_max: 1}"},
        {"start_timeout_s": 5},
        {"stop_grace_s": 5},
    ],
)
def test_what_no_engine_sees_changes_live(keys: dict[str, object]) -> None:
    """Replicas, names, routing, queue, limits, prices and care leave the engines alone."""
    assert effects(with_chat(), with_chat(**keys)) == {"chat": "changed"}


def test_weights_of_endpoints_change_live() -> None:
    """Endpoints that others run go on as they are; requests are shared out anew."""
    far = "deployments: {far: {engine: openai, model: m, endpoints: [http://a/v1, http://b/v1]%s}}"
    assert effects(far % "", far % ", weights: {http://a/v1: 3}") == {"far": "changed"}


@pytest.mark.parametrize(
    "keys", [{"context_tokens": 99}, {"parallel": 3}, {"model": "x"}, {"faults": "true"}]
)
def test_what_engines_see_needs_new_ones(keys: dict[str, object]) -> None:
    """The model and an engine's own settings mean that replicas are replaced."""
    assert effects(with_chat(), with_chat(**keys)) == {"chat": "new engines"}


def test_added_removed_and_another_engine() -> None:
    """Deployments come and go by name; one whose engine is another keeps its name only."""
    new = """
deployments:
  more: {engine: simulated}
  outside: {engine: simulated}
"""
    assert effects(BASE, new) == {"more": "added", "outside": "new engines", "chat": "removed"}
    change = compare(loaded(BASE), loaded(new))
    assert [str(key) for key in change.deployments[1].keys] == [
        "deployments.outside.engine: openai -> simulated"
    ]


def test_the_rest_of_the_file_changes_live() -> None:
    """Tenants, limits per key, CORS, TLS's files and more apply to what runs."""
    old = "gateway: {tls: {certificate: /a.pem, key: /a.key}}\n" + with_chat()
    new = """
gateway:
  tls: {certificate: /b.pem, key: /a.key}
  key_limits: {requests_per_minute: 60}
  cors: {origins: ["https://x.example"]}
  auth: keys
ledger: {keep_days: 5}
tenants: {acme: {weight: 2}}
""" + with_chat()
    change = compare(loaded(old), loaded(new))
    assert change.refusal() is None
    assert [str(key) for key in change.live] == [
        "gateway.auth: none -> keys",
        "gateway.tls.certificate: /a.pem -> /b.pem",
        'gateway.cors: not given -> {"origins": ["https://x.example"]}',
        "gateway.key_limits.requests_per_minute: not given -> 60",
        "ledger.keep_days: 90 -> 5",
        'tenants.acme: not given -> {"weight": 2.0}',
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("gateway: {listen: '127.0.0.1:9000'}", "gateway.listen: 127.0.0.1:8000 -> 127.0.0.1:9000"),
        ("gateway: {workers: 2}", "gateway.workers: 1 -> 2"),
        ("gateway: {tls: {certificate: a, key: b}}", "gateway.tls: not given -> {"),
        (
            "gateway: {shared_limits: {redis: 'redis://h:1/0'}}",
            "gateway.shared_limits.redis: not given -> redis",
        ),
        ("gateway: {traces: {endpoint: 'http://h/v1/traces'}}", "gateway.traces: not given -> {"),
        ("admin: {listen: '127.0.0.1:9001'}", "admin.listen: not given -> 127.0.0.1:9001"),
        ("admin: {tls: {certificate: a, key: b}}", "admin.tls: not given -> {"),
        ("ledger: {url: 'sqlite:///x.db'}", "ledger.url: not given -> sqlite:///x.db"),
        ("ledger: {currency: EUR}", "ledger.currency: USD -> EUR"),
    ],
)
def test_what_needs_a_restart_refuses_everything(section: str, said: str) -> None:
    """Sockets, processes and stores can't change: the refusal names key, both values and the way out."""
    change = compare(loaded(with_chat()), loaded(section + "\n" + with_chat(replicas=2)))
    refusal = change.refusal()
    assert refusal is not None
    assert said in refusal.message
    assert "Nothing was changed" in refusal.message
    assert "inferry down" in refusal.message
    assert change.live == ()


def test_no_secret_is_said() -> None:
    """Values that came from outside are shown as references, also when only what they stand for has changed."""
    old = 'ledger: {url: "${DB}"}\n' + BASE
    new = old.replace("${DB}", "${DB2}").replace("http://h:1/v1", "http://h:2/v1")
    change = compare(
        loaded(old, DB2="postgresql://me:t0psecret@db2/x"),
        loaded(new, DB2="postgresql://me:t0psecret@db2/x", KEY="sk-t0psecret"),
    )
    refusal = change.refusal()
    assert refusal is not None
    said = "\n".join((*change.summary(), refusal.message, repr(change)))
    assert "ledger.url: ${DB} -> ${DB2}" in said
    assert "deployments.outside.api_key: ${KEY} stands for another value now" in said
    assert "secret" not in said.replace("(secret)", "")
    assert {each.name: each.effect for each in change.deployments}["outside"] is Effect.NEW_ENGINES


def test_signed_urls_lose_their_signature() -> None:
    """A model's URL is shown without its query, a key written as another one is not shown at all."""
    gguf = "deployments:\n  chat: {engine: llamacpp, model: 'https://h/m.gguf?sig=s3cret'}\n"
    change = compare(loaded(gguf), loaded(gguf.replace("m.gguf", "n.gguf")))
    assert "s3cret" not in "\n".join(change.summary())
    assert "https://h/n.gguf?..." in "\n".join(change.summary())


def test_the_summary_is_for_people() -> None:
    """One line for each deployment and key, nothing for what stays, and not a thousand lines."""
    new = BASE.replace("replicas: 2", "replicas: 4").replace("8000", "9000").replace("weight: 1", "weight: 2")
    assert compare(loaded(BASE), loaded(new)).summary() == [
        "deployment chat: changed",
        "  deployments.chat.replicas: 2 -> 4",
        "tenants.acme.weight: 1.0 -> 2.0",
        "gateway.listen: 127.0.0.1:8000 -> 127.0.0.1:9000 (needs a restart)",
    ]
    tenants = ", ".join(f"t{number}: {{weight: 2}}" for number in range(50))
    lines = compare(loaded(with_chat()), loaded(f"tenants: {{{tenants}}}\n" + with_chat())).summary()
    assert len(lines) == SHOWN_KEYS_MAX + 1
    assert lines[-1] == "and 30 keys more"
    long = compare(loaded(with_chat()), loaded(with_chat(aliases=f"[{'a' * 200}]"))).summary()[1]
    assert len(long) < SHOWN_CHARS_MAX + 60
