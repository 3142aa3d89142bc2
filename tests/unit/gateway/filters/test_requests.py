"""Requests: every text a client can send, on every route."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from inferry.core.errors import ContentFiltered
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES, TOKENIZE, Route
from inferry.gateway.filters.verdict import Blocked, Masked, Passed

from .wire import compiled

BAD = "the BOMB is"
TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": {"b": BAD}}}
PLACES: list[tuple[Route, dict[str, Any]]] = [
    (CHAT, {"messages": [{"role": "user", "content": BAD}]}),
    (CHAT, {"messages": [{"role": "system", "content": BAD}, {"role": "user", "content": "x"}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": BAD}]}]}),
    (CHAT, {"messages": [{"role": "user", "name": BAD, "content": "x"}]}),
    (CHAT, {"messages": [{"role": "tool", "tool_call_id": "1", "content": BAD}]}),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"a": BAD})}}]}]}),
    (CHAT, {"messages": [], "tools": [{"type": "function", "function": {"name": "f", "description": BAD}}]}),
    (CHAT, {"messages": [{"role": BAD, "content": "x"}]}),
    (COMPLETIONS, {"prompt": BAD}),
    (COMPLETIONS, {"prompt": ["x", BAD], "suffix": "y"}),
    (EMBEDDINGS, {"input": BAD}),
    (EMBEDDINGS, {"input": ["x", BAD]}),
    (RESPONSES, {"input": BAD}),
    (RESPONSES, {"input": "x", "instructions": BAD}),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": BAD}]}]}),
    (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "1", "output": BAD}]}),
    (MESSAGES, {"messages": [{"role": "user", "content": BAD}]}),
    (MESSAGES, {"messages": [], "system": [{"type": "text", "text": BAD}]}),
    (MESSAGES, {"messages": [{"role": "assistant", "content": [TOOL]}]}),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": BAD}]}]}),
    (RERANK, {"query": BAD, "documents": ["x"]}),
    (RERANK, {"query": "x", "documents": ["y", {"text": BAD}]}),
    (TOKENIZE, {"content": BAD}),
]  # fmt: skip


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function"])
def test_known_roles_are_no_texts(role: str) -> None:
    """A term that is also a role stops no chat; the same word within another role does."""
    body = json.dumps({"model": "m", "messages": [{"role": role, "content": "x"}]}).encode()
    rules = compiled({"terms": [role]})
    assert rules.input(CHAT, body, "t", None) == Passed()
    odd = body.replace(role.encode(), b"a " + role.encode())
    assert isinstance(rules.input(CHAT, odd, "t", None), Blocked)


@pytest.mark.parametrize(("route", "body"), PLACES)
def test_every_place_is_looked_at(route: Route, body: dict[str, Any]) -> None:
    """A term is found wherever a request can hold text; masked, the rest of the request stays as it was."""
    written = json.dumps({"model": "bomb", **body}).encode()
    stopped = compiled({"terms": ["bomb"]}).input(route, written, "t", None)
    assert isinstance(stopped, Blocked)
    assert isinstance(stopped.error, ContentFiltered)
    assert (stopped.error.status, stopped.error.code) == (400, "content_filter")
    assert "r0" in stopped.error.message
    assert "BOMB" not in stopped.error.message
    masked = compiled({"terms": ["bomb"], "action": "mask"}).input(route, written, "t", None)
    assert isinstance(masked, Masked)
    assert json.loads(masked.body) == json.loads(written.replace(b"BOMB", b"[removed]"))
    flagged = compiled({"terms": ["bomb"], "action": "flag"}).input(route, written, "t", None)
    assert flagged == Passed(frozenset({"r0"}))


@pytest.mark.parametrize("written", ["\\u0062omb", "b\\u006Fmb", "bom\\u0062", "\\u0042OMB"])
def test_escapes_hide_nothing(written: str) -> None:
    """JSON escapes are decoded before rules look."""
    body = b'{"model": "m", "messages": [{"role": "user", "content": "a %b."}]}' % written.encode()
    assert isinstance(compiled({"terms": ["bomb"]}).input(CHAT, body, "t", None), Blocked)
    slash = b'{"model": "m", "prompt": "a\\/b"}'
    assert isinstance(compiled({"terms": ["a/b"]}).input(COMPLETIONS, slash, "t", None), Blocked)


def test_what_is_not_masked_stays_byte_for_byte() -> None:
    """Numbers, escapes and white space of untouched values are those that the client wrote."""
    body = b'{"model":"m","seed":12345678901234567890123,"temperature":1.50,"messages":[{"role":"user","content":"a@b.com"},{"role": "user", "x": 1e2,  "content":"\\u00e9"}]}'
    verdict = compiled({"detect": ["email"], "action": "mask"}).input(CHAT, body, "t", None)
    assert isinstance(verdict, Masked)
    assert verdict.body == body.replace(b"a@b.com", b"[removed]")
    assert verdict.rules == {"r0"}


def test_token_ids_are_refused_by_rules_that_hold() -> None:
    """A prompt of token ids can't be looked at: rules that block or mask refuse it, rules that flag let it pass."""
    for body in (b'{"prompt":[1,2]}', b'{"prompt":[[1],[2]]}', b'{"prompt":["a",[1]]}'):
        for action in ("block", "mask"):
            verdict = compiled({"terms": ["x"], "action": action}).input(COMPLETIONS, body, "t", None)
            assert isinstance(verdict, Blocked)
        passed = compiled({"terms": ["x"], "action": "flag"}).input(COMPLETIONS, body, "t", None)
        assert passed == Passed()


def test_json_that_is_none_is_refused() -> None:
    """What can't be decoded is blocked, not passed on unseen."""
    for content in (b'"\\ud83d"', b'"\xff"', b'{"a":[' * 3000):
        verdict = compiled({"terms": ["x"]}).input(CHAT, b'{"messages":[%b]}' % content, "t", None)
        assert isinstance(verdict, Blocked)
        assert verdict.rule == "unreadable"


def test_prompt_length() -> None:
    """prompt_chars_max counts the texts of the whole request, as characters."""
    filters = compiled({"prompt_chars_max": 6, "on": "input"})
    fits = json.dumps({"model": "m", "messages": [{"role": "user", "content": "éé"}, {"content": "1234"}]})
    assert filters.input(CHAT, fits.encode(), "t", None) == Passed()
    verdict = filters.input(CHAT, fits.replace("1234", "12345").encode(), "t", None)
    assert isinstance(verdict, Blocked)
    assert "7 characters, and 6 are allowed" in verdict.error.message


def test_a_length_is_told_before_texts_are_searched() -> None:
    """A prompt that is too long for one rule is not looked at by the others, whatever their order."""
    filters = compiled({"terms": ["x"]}, {"name": "long", "prompt_chars_max": 3, "on": "input"})
    verdict = filters.input(COMPLETIONS, b'{"prompt":"xxxx"}', "t", None)
    assert isinstance(verdict, Blocked)
    assert verdict.rule == "long"


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
PDF = base64.b64encode(b"%PDF-1.7 0000000").decode()
FILES: list[tuple[dict[str, Any], str]] = [
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, ""),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PDF}"}}, "pdf"),
    ({"type": "image_url", "image_url": {"url": f"DATA:image/gif;base64,{PNG}"}}, "gif"),
    ({"type": "image_url", "image_url": {"url": "https://x.org/a.PNG?x=1"}}, ""),
    ({"type": "image_url", "image_url": {"url": "https://x.org/a"}}, "unknown"),
    ({"type": "input_image", "image_url": f"data:image/jpeg;base64,{PNG}"}, "jpeg"),
    (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        "pdf",
    ),
    ({"type": "file", "file": {"file_id": "f1"}}, "unknown"),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "wav"),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, ""),
    ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}, "pdf"),
    ({"type": "image", "source": {"type": "url", "url": "https://x.org/a.webp"}}, "webp"),
    ({"type": "text", "text": "a.pdf"}, ""),
]


@pytest.mark.parametrize(("part", "strange"), FILES)
def test_file_types(part: dict[str, Any], strange: str) -> None:
    """A file's type is what the request says and what the file begins with; both must be allowed."""
    filters = compiled({"file_types": ["png"], "on": "input"})
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    verdict = filters.input(CHAT, body, "t", None)
    if not strange:
        assert verdict == Passed()
    else:
        assert isinstance(verdict, Blocked)
        assert f"type {strange};" in verdict.error.message


def test_the_content_of_files_is_no_text() -> None:
    """Base64 of an image is not searched for terms; a plain-text document is."""
    filters = compiled({"terms": ["AAAA"]})
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "AAAA"}}
    for part, wanted in ((image, Passed), (text, Blocked)):
        body = json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()
        assert isinstance(filters.input(MESSAGES, body, "t", None), wanted)


def test_for_whom_a_rule_is() -> None:
    """tenants, keys and their exceptions decide who is looked at, in both directions."""
    body = b'{"messages":[{"role":"user","content":"x"}]}'
    cases: list[tuple[dict[str, Any], tuple[str, str | None], bool]] = [
        ({"except_tenants": ["a"]}, ("a", None), False),
        ({"except_tenants": ["a"]}, ("b", None), True),
        ({"except_keys": ["k1"]}, ("a", "k1"), False),
        ({"except_keys": ["k1"]}, ("a", None), True),
        ({"tenants": ["a"]}, ("a", None), True),
        ({"tenants": ["a"]}, ("b", None), False),
        ({"keys": ["k1"]}, ("a", "k1"), True),
        ({"keys": ["k1"]}, ("a", None), False),
    ]
    for who, (tenant, key_id), looked in cases:
        filters = compiled({"terms": ["x"], **who})
        assert isinstance(filters.input(CHAT, body, tenant, key_id), Blocked) is looked
        assert (filters.stream(CHAT, tenant, key_id) is not None) is looked


def test_direction() -> None:
    """A rule looks only where `on` says; without a rule for answers there is no stream filter at all."""
    body = b'{"messages":[{"role":"user","content":"x"}]}'
    only_in, only_out = compiled({"terms": ["x"], "on": "input"}), compiled({"terms": ["x"], "on": "output"})
    assert isinstance(only_in.input(CHAT, body, "t", None), Blocked)
    assert only_in.stream(CHAT, "t", None) is None
    assert not only_in.looks_at_answers(CHAT, "t", None)
    assert only_out.input(CHAT, body, "t", None) == Passed()
    assert only_out.stream(CHAT, "t", None) is not None
    assert only_out.stream(EMBEDDINGS, "t", None) is None


PHONES = [
    ("US", "(650) 253-0000 ok", "(650) 253-0000"),
    ("US", "6502530000", "6502530000"),
    ("DE", "ruf 030 901820 an", "030 901820"),
    ("FR", "01 42 68 53 00", "01 42 68 53 00"),
    ("CN", "138 0013 8000", "138 0013 8000"),
    ("US", "on 12/31/2024 at 10", ""),
    ("US", "1 2 3 4 5 6 7 8 9 10", ""),
]


@pytest.mark.parametrize(("region", "text", "number"), PHONES)
def test_phone_numbers_as_written_at_home(region: str, text: str, number: str) -> None:
    """With phone_region, a number that the country's plan has is found without +; dates and lists are not."""
    filters = compiled({"detect": ["phone"], "phone_region": region, "action": "mask", "mask_with": "#"})
    verdict = filters.input(COMPLETIONS, json.dumps({"prompt": text}).encode(), "t", None)
    if not number:
        assert verdict == Passed()
    else:
        assert isinstance(verdict, Masked)
        assert json.loads(verdict.body)["prompt"] == text.replace(number, "#")
