"""The input: what is a request, and what is said of lines that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferry.batch import input_file
from inferry.batch.input_file import BadLine, Reading, begins_with, parse_line, read, scan
from inferry.core.errors import ConfigError

from .lines import line, write_lines


def test_requests_come_in_order_with_their_line(tmp_path: Path) -> None:
    """Empty lines are passed over, but counted: a line's number is the one that an editor shows."""
    path = write_lines(tmp_path / "in", line("b"), "", line("a"), "   ")
    found = scan(path, Reading())
    assert (found.requests, found.lines) == (2, 4)
    assert [(each.line, each.custom_id) for each in read(path, Reading(), found)] == [(1, "b"), (3, "a")]


def test_a_body_is_sent_byte_by_byte(tmp_path: Path) -> None:
    """Numbers, spaces and unknown fields of a body reach the service as they were written."""
    body = '{"model":"chat",  "temperature":1.0e0, "x":[1,2]}'
    text = f'{{"custom_id":"a","method":"POST","url":"/v1/completions","body":{body}}}'
    request = parse_line(1, text.encode(), Reading())
    assert (request.path, request.model, request.body) == ("/v1/completions", "chat", body.encode())


def test_another_model_stands_in_for_each_requests_own() -> None:
    """With a model of the operator's, only that field of a body is changed; it may have been missing."""
    for body in ({"model": "gpt", "n": 2}, {"n": 2}):
        request = parse_line(1, json.dumps(line(body=body)).encode(), Reading(model="chat"))
        assert json.loads(request.body) == {"model": "chat", "n": 2}
        assert request.model == "chat"


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    """Files from editors that write one are read."""
    path = tmp_path / "in"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode())
    assert scan(path, Reading()).requests == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "the line: Input data was truncated"),
        ("[1]", "the line: must be a JSON object"),
        (line(custom_id=None), "custom_id: is missing."),
        ({"custom-id": "a"}, "custom_id: is missing. There is 'custom-id'."),
        (line(custom_id=7), "custom_id: must be a text, not 7"),
        (line(custom_id=""), "custom_id: has 0 characters; 1 to 1024 are right"),
        (line(method="GET"), "method: 'GET' can't be run; only 'POST' can"),
        (line(url="/v1/chat/completion"), "url: '/v1/chat/completion' is not served. Did you mean"),
        (
            line(url="http://elsewhere/v1/completions"),
            "url: 'http://elsewhere/v1/completions' is not served.",
        ),
        (line(body=None), "body: is missing."),
        (line(body="text"), "body: must be a JSON object"),
        (line(body={"messages": []}), "body.model: is missing."),
        (line(body={"model": ""}), "body.model: is empty"),
        (line(body={"model": "a", "stream": True}), "body.stream: a batch has whole answers only"),
        ('{"custom_id": "\udcff"}', "the line: is not UTF-8 (byte 16)"),
        ('{"a":' * 100_000, "the line: maximum recursion depth"),
    ],
)
def test_a_wrong_line_names_its_field(text: Any, said: str) -> None:
    """What is wrong, in which field, and what was probably meant."""
    raw = text if isinstance(text, str) else json.dumps(text)
    with pytest.raises(BadLine) as raised:
        parse_line(1, raw.encode("utf-8", "surrogateescape"), Reading())
    assert str(raised.value).startswith(said)


def test_a_stream_that_is_not_wanted_is_right() -> None:
    """`"stream": false` says what a batch does anyway."""
    text = json.dumps(line(body={"model": "chat", "stream": False})).encode()
    assert parse_line(1, text, Reading()).custom_id == "a"


def test_other_services_may_have_other_paths() -> None:
    """Below /v1/ everything can be asked of a service that is not ours; another host can't be named there."""
    other = Reading(any_path=True)
    assert parse_line(1, json.dumps(line(url="/v1/moderations")).encode(), other).path == "/v1/moderations"
    with pytest.raises(BadLine, match="url"):
        parse_line(1, json.dumps(line(url="//evil/v1/")).encode(), other)


@pytest.mark.parametrize(
    "url", ["/v1/a\nb", "/v1/a\x00", "/v1/a b", "/v1/m\u00f6re", "/v1/\x7f", "/v1/" + "x" * 70_000]
)
def test_a_path_that_makes_no_url_is_refused_before_anything_is_sent(url: str) -> None:
    """Also where any path goes; what is shown of it does nothing to a terminal."""
    with pytest.raises(BadLine, match="can't be sent") as raised:
        parse_line(1, json.dumps(line(url=url)).encode(), Reading(any_path=True))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


def test_all_wrong_lines_are_told_together(tmp_path: Path) -> None:
    """One look at the message is enough to mend the file; ids that repeat name both lines."""
    path = write_lines(tmp_path / "in", line("a"), line("b", method="GET"), line("a"), "x", line("a"))
    with pytest.raises(ConfigError) as raised:
        scan(path, Reading())
    assert raised.value.message.splitlines() == [
        f"{path} can't be run as a batch; nothing was sent.",
        "  line 2: method: 'GET' can't be run; only 'POST' can",
        "  line 4: the line: JSON is malformed: invalid character (byte 0)",
        "  line 3: custom_id: 'a' stands in line 1 already",
        "  line 5: custom_id: 'a' stands in line 1 already",
    ]


def test_a_wholly_wrong_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Twenty problems are shown, and that there are more."""
    path = write_lines(tmp_path / "in", *["x"] * 1000)
    with pytest.raises(ConfigError) as raised:
        scan(path, Reading())
    told = raised.value.message.splitlines()
    assert len(told) == 21
    assert told[0].endswith("Only the first ones are shown.")


def test_ids_that_only_look_alike_in_short_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If two ids had the same short hash, they would be compared themselves."""
    monkeypatch.setattr(input_file, "_short", lambda custom_id: 1)
    path = write_lines(tmp_path / "in", line("a"), line("b"))
    assert scan(path, Reading()).requests == 2


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_requests_is_said_so(tmp_path: Path, text: str) -> None:
    """Nothing to do is an error: the wrong file was probably named."""
    path = tmp_path / "in"
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no requests"):
        scan(path, Reading())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The path and the reason are named."""
    with pytest.raises(ConfigError, match="missing can't be read: No such file"):
        scan(tmp_path / "missing", Reading())


def test_a_file_without_line_ends_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has a bound, so that no file fills the memory."""
    monkeypatch.setattr(input_file, "LINE_BYTES_MAX", 100)
    path = tmp_path / "in"
    path.write_text(json.dumps(line("x" * 200)))
    with pytest.raises(ConfigError, match="line 1: longer than 100 bytes"):
        scan(path, Reading())


def test_a_change_under_the_hands_is_noticed(tmp_path: Path) -> None:
    """A line that was right at the check and is wrong when it is to be sent ends the run with its number."""
    path = write_lines(tmp_path / "in", line("a"), line("b"))
    requests = read(path, Reading(), scan(path, Reading()))
    write_lines(path, line("a"), "x" * 100)
    assert next(requests).custom_id == "a"
    with pytest.raises(ConfigError, match="changed while it was read: line 2"):
        next(requests)


def test_what_is_appended_meanwhile_is_not_read(tmp_path: Path) -> None:
    """A batch is what the file held when it was checked, also where its last line had no end."""
    path = tmp_path / "in"
    path.write_text("\ufeff" + json.dumps(line("a")))
    found = scan(path, Reading())
    with path.open("a") as file:
        file.write("\n" + json.dumps(line("b")) + "\n" + "half a li")
    assert [each.custom_id for each in read(path, Reading(), found)] == ["a"]
    assert begins_with(path, found.end, found.sha256)
    assert scan(path, Reading(), found.end) == found


def test_more_lines_than_there_were_are_a_change(tmp_path: Path) -> None:
    """A file that was written anew with shorter lines has no place for its answers, and that is said."""
    path = write_lines(tmp_path / "in", line("a" * 900))
    found = scan(path, Reading())
    write_lines(path, line("a"), line("b"))
    requests = read(path, Reading(), found)
    next(requests)
    with pytest.raises(ConfigError, match="changed while it was read: line 2"):
        next(requests)
    assert not begins_with(path, found.end, found.sha256)
