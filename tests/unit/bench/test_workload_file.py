"""Prompts from files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from inferry.bench.plan import Constant, FromFile
from inferry.bench.tokens import WORDS, Wording
from inferry.core.errors import BadBenchPlan
from tests.unit.bench.test_tokens import tokenizer_json
from tests.unit.bench.workload_plans import asked, tokens

SHAREGPT = [
    {
        "id": "a_0",
        "conversations": [
            {"from": "human", "value": "Who are you?"},
            {"from": "gpt", "value": "x" * 400},
            {"from": "human", "value": "Really?"},
        ],
    },
    {"id": "b_1", "conversations": [{"from": "gpt", "value": "cut off"}, {"from": "human", "value": "?"}]},
    {"id": "c", "conversations": []},
    {"id": "d", "conversations": [{"from": "human", "value": "Nobody answers"}]},
    {
        "id": "e",
        "conversations": [{"from": "user", "value": "Why?"}, {"from": "assistant", "value": "So."}],
    },
]
LINES = (
    '{"prompt": "Say a.", "output_tokens": 5}\n'
    "\n"
    '{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say b."}], "id": 7}\n'
)


def test_sharegpt_s_first_questions(tmp_path: Path) -> None:
    """With the answer's length as the wanted one; what begins in the middle or has no answer is left out."""
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(SHAREGPT))
    found = asked(FromFile(path=str(path)), requests_max=2)
    assert {(each.text, each.output_tokens) for each in found} == {("Who are you?", 100), ("Why?", 1)}
    assert [each.input_tokens for each in found] == [None, None]


def test_lines_with_prompts_and_messages(tmp_path: Path) -> None:
    """Both forms in one file, empty lines between, other fields passed over; packed or not."""
    plain, packed = tmp_path / "prompts.jsonl", tmp_path / "prompts.jsonl.gz"
    plain.write_text("\ufeff" + LINES, encoding="utf-8")
    packed.write_bytes(gzip.compress(LINES.encode()))
    found = asked(FromFile(path=str(plain)), requests_max=2)
    assert found == asked(FromFile(path=str(packed)), requests_max=2)
    first, second = sorted(found, key=lambda each: each.text is None)
    assert (first.text, first.messages, first.output_tokens) == ("Say a.", None, 5)
    assert (second.text, second.output_tokens) == (None, None)
    assert second.messages == (("system", "Be short."), ("user", "Say b."))


def test_a_file_begins_again_when_the_run_is_longer(tmp_path: Path) -> None:
    """In one order each time, and no prompt comes again before all have been."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{name}"}}\n' for name in "abc"))
    found = [each.text for each in asked(FromFile(path=str(path)), arrivals=Constant(1), duration_s=8)]
    assert set(found[:3]) == set("abc")
    assert found == (found[:3] * 3)[:8]


def test_each_run_asks_in_an_order_of_its_own(tmp_path: Path) -> None:
    """Other seeds and other runs begin with other prompts, which no cache has yet; all processes of one run agree."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "{number}"}}\n' for number in range(1000)))
    workload = FromFile(path=str(path))

    def texts(**run: Any) -> list[str | None]:
        return [each.text for each in asked(workload, requests_max=50, **run)]

    one = texts(seed=1, nonce="a")
    assert one == texts(seed=1, nonce="a")
    for other in (texts(seed=2, nonce="a"), texts(seed=1, nonce="b")):
        assert len(set(one) & set(other)) < 10


def test_lengths_of_the_plan_go_before_those_of_the_file(tmp_path: Path) -> None:
    """For all of its prompts."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(LINES)
    found = asked(FromFile(path=str(path), output_tokens=tokens(33)))
    assert {each.output_tokens for each in found} == {33}


def test_with_a_tokenizer_lengths_are_counted(tmp_path: Path) -> None:
    """Of answers, and of prompts with what the server puts around them; asked again, a cache could have had all but
    the last token."""
    tokenizer = tokenizer_json(tmp_path)
    path = tmp_path / "sharegpt.json"
    question, answer = " ".join(WORDS[:20]), " ".join(WORDS[:50])
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    path.write_text(json.dumps([{"conversations": said}]))
    wording = Wording(tokenizer_path=str(tokenizer), overhead_tokens=9)
    found = asked(FromFile(path=str(path)), wording=wording, requests_max=3)
    assert {(each.input_tokens, each.output_tokens) for each in found} == {(29, 50)}
    assert [each.shared_tokens for each in found] == [0, 28, 28]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "line 3: JSON is malformed"),
        ("[]", "line 3: Expected `object`, got `array`"),
        ('{"prompt": 5}', "line 3: Expected `str | null`, got `int` - at `$.prompt`"),
        ('{"text": "a"}', "line 3: give either 'prompt', a text, or 'messages'"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', "line 3: give either"),
        ('{"prompt": ""}', "line 3: 'prompt' is empty"),
        ('{"messages": []}', "line 3: 'messages' is empty"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
            "line 3: Expected `str`, got `array`",
        ),
        ('{"prompt": "a", "output_tokens": 0}', "line 3: 'output_tokens' is 0: it must be 1 or more"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    """File, line and what is wrong with it."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n\n' + line + "\n")
    with pytest.raises(BadBenchPlan) as caught:
        asked(FromFile(path=str(path)))
    assert f"prompts.jsonl, {words}" in caught.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has no prompts"),
        (b"\xff\xfe\n", "line 1:"),
        (
            b'[{"turns": []}]',
            "begins like ShareGPT's JSON, a list of objects with 'conversations', and item 1 of it",
        ),
        (b'[{"conversations": []}', "and it is none: Input data was truncated"),
        (
            b'[{"conversations": []}, {"conversations": 5}]',
            "and item 2 of it is none: Expected `array`",
        ),
        (b'[{"conversations": []}]', "has no prompts"),
        (b"\x1f\x8bno gzip", "can't be unpacked"),
        (b"\x1f\x8b\x08\x00", "can't be unpacked"),
    ],
)
def test_a_file_without_prompts_is_said(tmp_path: Path, data: bytes, words: str) -> None:
    """Empty, of another form, or broken."""
    path = tmp_path / "prompts"
    path.write_bytes(data)
    with pytest.raises(BadBenchPlan) as caught:
        asked(FromFile(path=str(path)))
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With its path and the system's reason."""
    with pytest.raises(BadBenchPlan, match=r"gone\.jsonl can't be read: No such file or directory"):
        asked(FromFile(path=str(tmp_path / "gone.jsonl")))
