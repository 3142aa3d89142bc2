"""The look-up that each request goes through."""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import replace

import pytest

from inferry.core.api_key import ApiKey
from inferry.core.errors import (
    DeploymentNotAllowed,
    DisabledKey,
    ExpiredKey,
    InvalidKey,
    MissingKey,
    WrongScope,
)
from inferry.ledger import keyring
from inferry.ledger.key_text import PREFIX_CHARS, digest_of, make_key_text, prefix_of
from inferry.ledger.keyring import KeyRing, credential_of, require_deployment, require_scope

TEXT = make_key_text()
KEY = ApiKey(id="key_1", prefix=prefix_of(TEXT), digest=digest_of(TEXT), tenant="acme", name="ci")
NOW_S = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC


def test_a_good_key_is_found() -> None:
    """Among others, and as the very object that was put in."""
    others = [
        ApiKey(id=f"key_{i}", prefix=prefix_of(text), digest=digest_of(text), tenant="t", name=str(i))
        for i, text in enumerate(make_key_text() for _ in range(100))
    ]
    ring = KeyRing([*others, KEY])
    assert ring.find(TEXT.encode(), NOW_S) is KEY
    assert len(ring) == 101


@pytest.mark.parametrize(
    "credential",
    [TEXT[:-1], TEXT + "x", TEXT[:PREFIX_CHARS], TEXT.swapcase(), TEXT[:4]],
    ids=["cut", "longer", "prefix", "other case", "four signs"],
)
def test_nearly_the_key_is_not_the_key(credential: str) -> None:
    """Its prefix is no secret and opens nothing."""
    with pytest.raises(InvalidKey):
        KeyRing([KEY]).find(credential.encode(), NOW_S)


def test_no_key_says_how_to_send_one() -> None:
    """Both headers are named."""
    with pytest.raises(MissingKey, match=r"Authorization: Bearer KEY.*x-api-key: KEY"):
        KeyRing([KEY]).find(b"", NOW_S)


def test_an_unknown_key_is_told_from_a_mistyped_one() -> None:
    """The checksum says which, and the message never has more than eight characters of what was sent."""
    unknown = make_key_text()
    mistyped = unknown[:30] + ("a" if unknown[30] != "a" else "b") + unknown[31:]
    with pytest.raises(InvalidKey, match="not known here") as no_such:
        KeyRing([KEY]).find(unknown.encode(), NOW_S)
    with pytest.raises(InvalidKey, match="checksum does not fit") as slip:
        KeyRing([KEY]).find(mistyped.encode(), NOW_S)
    for caught in (no_such, slip):
        assert f" {unknown[:8]}... " in caught.value.message
        assert unknown[:9] not in caught.value.message


@pytest.mark.parametrize(
    "credential", [b"hunter2", b"sk-12345", b"\xff" * 100, b"\r\nevil: header padded to 24", b"\0" * 64]
)
def test_strange_credentials_are_not_repeated(credential: bytes) -> None:
    """A short one would be shown nearly whole, and unprintable ones belong in no log."""
    with pytest.raises(InvalidKey) as caught:
        KeyRing([KEY]).find(credential, NOW_S)
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert credential[:3].decode("latin-1") not in caught.value.message


def test_the_comparison_is_always_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix that nobody has costs the same comparison of 32 bytes as a known one: time tells nothing."""
    compared: Counter[tuple[int, int]] = Counter()

    def counted(one: bytes, other: bytes) -> bool:
        compared[len(one), len(other)] += 1
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keyring, "_same", counted)
    ring = KeyRing([KEY])
    ring.find(TEXT.encode(), NOW_S)
    for wrong in (make_key_text(), TEXT[:-1], ""):
        with pytest.raises((InvalidKey, MissingKey)):
            ring.find(wrong.encode(), NOW_S)
    assert compared == {(32, 32): 4}


def test_disabled() -> None:
    """401, and only for who has the whole key."""
    ring = KeyRing([replace(KEY, disabled=True)])
    with pytest.raises(DisabledKey, match="is disabled"):
        ring.find(TEXT.encode(), NOW_S)
    with pytest.raises(InvalidKey):
        ring.find(TEXT[:-1].encode(), NOW_S)


def test_expired_at_the_second() -> None:
    """Good until its last moment, and dead from then on without anybody's doing."""
    ring = KeyRing([replace(KEY, expires_wall_s=NOW_S)])
    assert ring.find(TEXT.encode(), NOW_S - 0.001).id == KEY.id
    with pytest.raises(ExpiredKey, match="expired at 2026-01-01 00:00:00Z"):
        ring.find(TEXT.encode(), NOW_S)


def test_replaced_keys_are_dead_at_once() -> None:
    """Nothing of the former keys is remembered."""
    ring = KeyRing([KEY])
    ring.find(TEXT.encode(), NOW_S)
    ring.replace([])
    with pytest.raises(InvalidKey):
        ring.find(TEXT.encode(), NOW_S)
    assert len(ring) == 0


def test_scopes() -> None:
    """A scope is had or not; admin does not include inference."""
    admin = replace(KEY, scopes=frozenset({"admin", "read-only"}))
    require_scope(admin, "admin")
    with pytest.raises(
        WrongScope, match="is for admin and read-only; this needs one with scope inference"
    ) as caught:
        require_scope(admin, "inference")
    assert caught.value.status == 403


def test_deployments() -> None:
    """None means all; else only those named, and the message says which those are."""
    require_deployment(KEY, "anything")
    some = replace(KEY, deployments=frozenset({"chat", "embed"}))
    require_deployment(some, "chat")
    with pytest.raises(
        DeploymentNotAllowed, match=r"may not call 'large'. It may call: chat, embed\."
    ) as caught:
        require_deployment(some, "large")
    assert (caught.value.status, caught.value.code, caught.value.param) == (
        403,
        "deployment_not_allowed",
        "model",
    )


@pytest.mark.parametrize(
    "refuse",
    [
        lambda key: require_scope(key, "admin"),
        lambda key: require_deployment(replace(key, deployments=frozenset({"x"})), "y"),
    ],
)
def test_refusals_show_the_prefix_only(refuse: object) -> None:
    """The part that is no secret is enough to know which key is meant."""
    assert callable(refuse)
    with pytest.raises((WrongScope, DeploymentNotAllowed)) as caught:
        refuse(KEY)
    assert KEY.prefix in caught.value.message
    assert TEXT[: PREFIX_CHARS + 1] not in caught.value.message


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "credential"),
    [
        (b"Bearer k", None, b"k"),
        (b"bearer  k ", None, b"k"),
        (b"BEARER k", None, b"k"),
        (None, b" k ", b"k"),
        (b"Bearer proxy", b"k", b"k"),
        (b"Bearer k", b" ", b"k"),
        (b"Basic dTpw", None, b""),
        (b"Bearer", None, b""),
        (b"Bearer ", None, b""),
        (b"k", None, b""),
        (None, None, b""),
    ],
)
def test_where_the_key_stands(
    authorization: bytes | None, x_api_key: bytes | None, credential: bytes
) -> None:
    """OpenAI's header and Anthropic's; what is in no form of ours is no key."""
    assert credential_of(authorization, x_api_key) == credential
