"""What a client has of a broken stream, and what makes the next replica's events the rest of it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.core.request import CHAT, COMPLETIONS, RESPONSES
from inferry.engines.continuation import continuation_of
from inferry.gateway.delivered import CALL, CONTENT, Delivered, Part
from inferry.gateway.next_leg import COUNT, REPLAY, TEXT, Leg, NothingLeft, NotResumed, next_leg
from inferry.gateway.sound_part import sound_part
from inferry.gateway.splice import Continued, Replayed, shift_usage

DONE = b"data: [DONE]\n\n"
VLLM = continuation_of("vllm")


def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "one", "created": 7, "choices": choices, **more}).encode() + b"\n\n"


def delta(reason: str | None = None, index: int = 0, **fields: Any) -> bytes:
    return event([{"index": index, "delta": fields, "finish_reason": reason}])


def call(index: int, arguments: str, name: str | None = None, id: str = "a") -> bytes:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    frame = {"index": index, "function": function} | ({"id": id, "type": "function"} if name else {})
    return delta(tool_calls=[frame])


def had(*events: bytes) -> Delivered:
    found = Delivered()
    found.take(b"".join(events))
    return found


def read(data: bytes) -> list[Any]:
    lines = [each.removeprefix(b"data: ") for each in data.split(b"\n\n") if each]
    return [json.loads(each) if each != b"[DONE]" else "[DONE]" for each in lines]


def test_delivered_sums_up_each_part() -> None:
    """Content, reasoning and each call's arguments of each choice are texts of their own."""
    found = had(
        delta(role="assistant", content=""),
        b": still here\n\n",
        delta(reasoning_content="hm"),
        delta(content="a"),
        delta(content="b", index=1),
        delta(content="c"),
        call(0, "", "f"),
        call(0, '{"x"'),
        call(1, "", "g"),
        delta("stop", index=1),
    )
    assert found.parts == {
        Part(0, "reasoning_content"): "hm",
        Part(0, CONTENT): "ac",
        Part(1, CONTENT): "b",
        Part(0, CALL, 0): '{"x"',
        Part(0, CALL, 1): "",
    }
    assert (found.roles, found.finished, found.odd) == ({0}, {1: "stop"}, None)
    assert found.envelope == {"id": "one", "created": 7}


@pytest.mark.parametrize(
    "data",
    [b"data: {nonsense\n\n", b'data: {"x": 1}\n\n', b'data: {"choices"', delta(audio={"data": "x"})],
    ids=["no JSON", "no choices", "half", "audio"],
)
def test_what_is_not_understood_is_odd(data: bytes) -> None:
    """And nothing odd is gone on with."""
    found = had(delta(content="a"), data)
    assert found.odd is not None
    assert isinstance(next_leg(CHAT, b'{"messages":[]}', found, 1, VLLM), NotResumed)


@pytest.mark.parametrize(
    ("events", "sound"),
    [
        (delta(content="a"), delta(content="a")),
        (delta(content="a") + event([], usage={"prompt_tokens": 1}) + DONE, delta(content="a")),
        (delta(content="a") + b'data: {"error": {"message": "x"}}\n\n' + DONE, delta(content="a")),
        (delta(content="a") + delta("abort"), delta(content="a")),
        (delta("stop") + b'data: {"half', delta("stop")),
        (b": ping\n\n" + DONE, b": ping\n\n"),
    ],
)
def test_the_sound_part_has_no_farewell(events: bytes, sound: bytes) -> None:
    """Words go on; error frames, [DONE], bare usage, reasons that say abort and half events do not."""
    assert sound_part(events) == sound


def test_a_last_word_beside_an_abort_goes_on() -> None:
    """Without the reason."""
    (found,) = read(sound_part(delta("abort", content="end")))
    assert found["choices"] == [{"index": 0, "delta": {"content": "end"}, "finish_reason": None}]


def test_another_engine_says_no_more_in_events_than_the_first() -> None:
    """vLLM's fingerprint is taken out where llama.cpp, which has none, began."""
    splice = Continued(had(delta(role="assistant", content=""), delta(content="a")), 1, "")
    more = [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]
    (found,) = read(splice.feed(event(more, id="two", system_fingerprint="vllm-1")))
    assert found == {"id": "one", "created": 7, "choices": more}


def leg_of(delivered: Delivered, tokens: int, **body: Any) -> Leg | NothingLeft | NotResumed:
    fields = {"model": "m", "messages": [{"role": "user", "content": "q"}], **body}
    return next_leg(CHAT, json.dumps(fields).encode(), delivered, tokens, VLLM)


@pytest.mark.parametrize(
    ("delivered", "body", "way"),
    [
        ((delta(role="assistant"),), {"tools": [{}]}, REPLAY),
        ((delta(content="a"),), {}, TEXT),
        ((delta(content="a"),), {"max_tokens": 1}, COUNT),
        ((delta(content="a"), delta("stop")), {}, COUNT),
        ((delta(content="a"),), {"tools": [{}], "seed": 3}, REPLAY),
        ((delta(reasoning_content="a"),), {"temperature": 0}, REPLAY),
        ((delta(content="a"),), {"n": 2, "top_k": 1}, REPLAY),
        ((delta(content="a"),), {"n": 2}, None),
        ((delta(reasoning="a"),), {"temperature": 0.5}, None),
        ((call(0, "", "f"),), {}, None),
    ],
)
def test_the_way_on(delivered: tuple[bytes, ...], body: dict[str, Any], way: str | None) -> None:
    """As docs/failover.md has it."""
    leg = leg_of(had(*delivered), 1, **body)
    assert (leg.way if isinstance(leg, Leg) else None) == way


def test_other_routes_are_not_resumed() -> None:
    """They say so."""
    found = next_leg(RESPONSES, b"{}", had(), 0, VLLM)
    assert isinstance(found, NotResumed)
    assert "/v1/responses" in found.because


def test_a_count_asks_for_one_token() -> None:
    """Whatever the length was, under every name that the client used; and its text is not passed on."""
    leg = leg_of(had(delta(content="a")), 1, max_tokens=1, max_completion_tokens=1, min_tokens=1)
    assert isinstance(leg, Leg)
    body = json.loads(leg.body)
    assert (body["max_tokens"], body["max_completion_tokens"]) == (1, 1)
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    out = read(
        leg.splice.feed(
            delta(role="assistant", content="") + delta("length", content="b") + event([], usage=usage) + DONE
        )
    )
    assert [each["choices"] for each in out[:2]] == [
        [{"index": 0, "delta": {}, "finish_reason": "length"}],
        [],
    ]
    assert out[1]["usage"] == {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    assert out[2:] == ["[DONE]"]


def test_another_engine_is_asked_for_its_own_model() -> None:
    """Whatever the way."""
    fields = b'{"model":"m","messages":[{"role":"user","content":"q"}]}'
    for delivered in (had(), had(delta(content="a"))):
        leg = next_leg(CHAT, fields, delivered, 1, VLLM, "theirs")
        assert isinstance(leg, Leg)
        assert json.loads(leg.body)["model"] == "theirs"


@given(
    text=st.text(max_size=12), repeat=st.text(alphabet=" \n", max_size=3), cuts=st.lists(st.integers(0, 15))
)
def test_what_comes_again_is_left_out(text: str, repeat: str, cuts: list[int]) -> None:
    """White space that the engine had cut off may come again, in any pieces; only so much is left out."""
    whole = repeat + text
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    splice = Continued(had(delta(role="assistant", content="a" + repeat)), 2, repeat)
    out = b"".join(splice.feed(delta(content=whole[a:b])) for a, b in itertools.pairwise(places))
    assert "".join(each["choices"][0]["delta"]["content"] for each in read(out)) == text


@given(before=st.integers(0, 30), cuts=st.lists(st.integers(0, 30)))
def test_a_replay_is_passed_over_up_to_where_it_was(before: int, cuts: list[int]) -> None:
    """However its pieces lie, the client gets exactly what it does not have."""
    whole = "abcdefghijklmnopqrstuvwxyz0123"
    splice = Replayed(had(delta(role="assistant", content=whole[:before])))
    places = sorted({*cuts, 0, len(whole)})
    out = splice.feed(delta(role="assistant", content=""))
    out += b"".join(splice.feed(delta(content=whole[a:b])) for a, b in itertools.pairwise(places))
    out += splice.feed(delta("stop"))
    assert splice.differs is None
    said = "".join(each["choices"][0]["delta"].get("content", "") for each in read(out))
    assert said == whole[before:]
    assert [each["choices"][0]["finish_reason"] for each in read(out)][-1] == "stop"


def test_a_replayed_call_keeps_its_id() -> None:
    """Engines make ids anew: the one that the client has stays, and the arguments go on where they were."""
    splice = Replayed(had(delta(role="assistant"), call(0, "", "f", "old"), call(0, '{"a')))
    out = read(
        splice.feed(call(0, "", "f", "new") + call(0, '{"ab": ') + call(0, "1}") + call(1, "", "g", "next"))
    )
    frames = [each["choices"][0]["delta"]["tool_calls"][0] for each in out]
    assert frames[:2] == [
        {"index": 0, "function": {"arguments": 'b": '}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    assert frames[2]["id"] == "next"


@pytest.mark.parametrize(
    "again",
    [
        (delta(content="axe"),),
        (delta(content="a"), delta("stop")),
        (delta(content="a"), delta(reasoning="b")),
        (call(0, "", "f"),),
    ],
    ids=["another word", "an end", "another part", "a call"],
)
def test_a_replay_that_differs_is_stopped(again: tuple[bytes, ...]) -> None:
    """Nothing of it goes on."""
    splice = Replayed(had(delta(role="assistant", content="abc")))
    assert b"".join(map(splice.feed, again)) == b""
    assert splice.differs is not None


def test_log_probabilities_go_with_their_tokens() -> None:
    """Of tokens that are passed over, none."""
    logprobs = {"content": [{"token": "ab"}, {"token": "c"}]}
    splice = Replayed(had(delta(role="assistant", content="ab")))
    choice = {"index": 0, "delta": {"content": "abc"}, "logprobs": logprobs, "finish_reason": None}
    (found,) = read(splice.feed(event([choice])))
    assert found["choices"][0]["logprobs"] == {"content": [{"token": "c"}]}


def test_events_may_be_cut_anywhere() -> None:
    """The next replica's reads need not end where its events do."""
    data = delta(role="assistant", content="") + delta(content="b") + delta("stop") + DONE
    for cut in range(len(data)):
        splice = Continued(had(delta(role="assistant", content="a")), 1, "")
        assert splice.feed(data[:cut]) + splice.feed(data[cut:]) + splice.finish() == splice_whole(data)


def splice_whole(data: bytes) -> bytes:
    return Continued(had(delta(role="assistant", content="a")), 1, "").feed(data)


def test_errors_and_comments_pass_as_they_are() -> None:
    """They are judged behind this."""
    error = b'data: {"error": {"message": "x"}}\n\n'
    splice = Continued(had(delta(content="a")), 1, "")
    assert splice.feed(b": ping\n\n" + error + DONE) == b": ping\n\n" + error + DONE


def test_completions_are_spliced_too() -> None:
    """Their texts stand in the choice itself."""
    first = event([{"index": 0, "text": "a", "finish_reason": None}])
    leg = next_leg(COMPLETIONS, b'{"model":"m","prompt":"p"}', had(first), 1, VLLM)
    assert isinstance(leg, Leg)
    assert json.loads(leg.body)["prompt"] == "pa"
    out = read(leg.splice.feed(event([{"index": 0, "text": "b", "finish_reason": None}], id="two")))
    assert [(each["id"], each["choices"][0]["text"]) for each in out] == [("one", "b")]


@pytest.mark.parametrize("cached", [None, 3, 30])
def test_usage_is_that_of_the_whole(cached: int | None) -> None:
    """What was generated before is no prompt; what the cache knew is at most the prompt; the sum stays."""
    usage: dict[str, Any] = {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    shift_usage(usage, 20)
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 25, 35)
    if cached is not None:
        assert usage["prompt_tokens_details"]["cached_tokens"] == min(cached, 10)
