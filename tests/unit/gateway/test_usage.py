"""Token counts from the last bytes of an answer."""

from __future__ import annotations

import json
import random

import pytest

from inferry.gateway.usage import Usage, finish_reason, read_completion, read_usage

PLAIN = (
    b'{"id":"x","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
)


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (PLAIN, Usage(7, 3)),
        (json.dumps(json.loads(PLAIN), indent=4).encode(), Usage(7, 3)),
        (
            b'data: {"choices":[],"usage":{"prompt_tokens":7,"total_tokens":9}}\n\ndata: [DONE]\n\n',
            Usage(7, None),
        ),
        (b'{"usage":{"prompt_tokens":0,"completion_tokens":0}}', Usage(0, 0)),
        # OpenAI responses, Anthropic messages
        (b'{"usage":{"input_tokens":5,"output_tokens":6,"total_tokens":11}}', Usage(5, 6)),
        (b'event: message_delta\ndata: {"delta":{},"usage":{"output_tokens":15}}\n\n', Usage(None, 15)),
        # details inside, before and behind
        (
            b'{"usage":{"prompt_tokens_details":{"cached_tokens":4,"a":{"b":{}}},"completion_tokens":3,'
            b'"completion_tokens_details":{"reasoning_tokens":1},"prompt_tokens":7}}',
            Usage(7, 3, 4, 1),
        ),
        (PLAIN[:-1] + b',"timings":{"prompt_n":1}}', Usage(7, 3)),
        # what a cache knew, in each dialect
        (
            b'{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":8},"output_tokens":6,'
            b'"output_tokens_details":{"reasoning_tokens":5}}}',
            Usage(9, 6, 8, 5),
        ),
        (
            b'{"usage":{"input_tokens":1,"cache_read_input_tokens":20,"cache_creation_input_tokens":300,'
            b'"output_tokens":6}}',
            Usage(321, 6, 20),
        ),
        (
            b'{"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":null}}',
            Usage(7, 3),
        ),
        (PLAIN[:-1] + b',"timings":{"cache_n":5,"prompt_n":2}}', Usage(7, 3, 5)),
        (PLAIN[:-1] + b',"timings":{"cache_n":8,"prompt_n":2}}', Usage(7, 3)),
        # the last one that says something
        (b'{"usage":{"prompt_tokens":1}} {"usage":{"prompt_tokens":2}}', Usage(2, None)),
        (b'{"usage":{"prompt_tokens":1}}\n\n{"usage":null}', Usage(1, None)),
        (
            b'{"usage":{"prompt_tokens":1},"tools":[{"properties":{"usage":{"type":"object"}}}]}',
            Usage(1, None),
        ),
        (b'{"usage":{"prompt_tokens":1},"usage":{}}', Usage(1, None)),
        # none
        (b"", None),
        (b'{"usage":null}', None),
        (b'{"usage":{}}', None),
        (b'{"usage":[]}', None),
        (b'{"usage":"{}"}', None),
        (b'{"kind":"usage"}', None),
        (b'{"usage":{"prompt_tokens":"7"}}', None),
        (b'{"usage":{"prompt_tokens":-7}}', None),
        (b'{"usage":{"prompt_tokens":7.5}}', None),
        (b'{"usage":{"prompt_tokens":' + b"9" * 400 + b"}}", None),
    ],
)
def test_usage_of_a_tail(tail: bytes, usage: Usage | None) -> None:
    """Every dialect's names, with anything around them; what is no count is nothing."""
    assert read_usage([tail]) == usage


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_text_that_looks_like_usage_is_no_usage(depth: int) -> None:
    """A model that writes a usage object, even as JSON in JSON, does not change its bill."""
    fake = '{"usage":{"prompt_tokens":1000000,"completion_tokens":1}}'
    for _ in range(depth):
        fake = json.dumps({"content": fake})
    assert read_usage([fake.encode()]) is None
    assert read_usage([b'{"usage":{"prompt_tokens":7}}' + fake.encode()]) == Usage(7, None)


@pytest.mark.parametrize("cut", range(len(PLAIN)))
def test_a_cut_answer_has_no_wrong_usage(cut: int) -> None:
    """An answer that breaks off anywhere gives no usage, never a part of a number."""
    whole = PLAIN.rindex(b"}")  # behind this the object is complete
    assert read_usage([PLAIN[:cut]]) == (Usage(7, 3) if cut >= whole else None)


def test_chunks_may_cut_anywhere() -> None:
    """However the tail was cut into chunks, and whatever is missing before it, the usage is found."""
    rng = random.Random(3)
    for _ in range(200):
        start = rng.randrange(PLAIN.index(b'"usage"'))
        ends = sorted(rng.sample(range(start, len(PLAIN)), 3))
        chunks = [PLAIN[a:b] for a, b in zip([start, *ends], [*ends, len(PLAIN)], strict=True)]
        assert read_usage(chunks) == Usage(7, 3)


def test_random_bytes_never_raise() -> None:
    """Whatever an engine sends, reading its usage gives a value."""
    rng = random.Random(5)
    pieces = [b'"usage"', b":", b"{", b"}", b'"prompt_tokens"', b"1", b" ", b"\\", b'"', b"\xff", b",", b"\n"]
    for _ in range(5000):
        tail = b"".join(rng.choices(pieces, k=rng.randrange(20)))
        assert isinstance(read_usage([tail]), Usage | None)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", [b'"usage":{', b'"usage":{},', b'"usage":{"a":"'])
def test_repeated_look_alikes_cost_little(piece: bytes) -> None:
    """A body that an engine echoes, full of the word, does not hold up the event loop."""
    assert read_usage([piece * (4 * 1024 * 1024 // len(piece))]) is None


# --- why it ended -------------------------------------------------------------------------------------

CHAT_CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}\n\n'
CHAT_LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
ITEM_DONE = (
    b"event: response.output_item.done\n"
    b'data: {"type":"response.output_item.done","item":{"status":"completed"},"x":{"object":"response"}}\n\n'
)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b'{"choices":[{"finish_reason":"stop","message":{"content":"hi"}}],"usage":{}}', "stop"),
        (b'{\n  "choices": [ { "finish_reason" : "tool_calls" } ]\n}', "tool_calls"),
        (CHAT_CHUNK + CHAT_LAST + b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n', "length"),
        # one choice is at its end, the other goes on
        (CHAT_LAST + CHAT_CHUNK, "length"),
        (b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n', "end_turn"),
        (b'{"type":"message","stop_reason":"max_tokens","stop_sequence":null}', "max_tokens"),
        (
            ITEM_DONE + b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n',
            "completed",
        ),
        (
            b'data: {"type":"response.incomplete","response":{"object":"response","status":"incomplete",'
            b'"incomplete_details":{"reason":"max_output_tokens"}}}\n\n',
            "max_output_tokens",
        ),
        (b'{"object":"response","incomplete_details":null,"status":"completed"}', "completed"),
        (b'{"object":"response","status":"failed","error":{"code":"server_error"}}', "failed"),
        # not at its end, or none
        (CHAT_CHUNK * 4, None),
        (ITEM_DONE, None),
        (b'{"object":"list","data":[{"object":"embedding","status":"completed"}]}', None),
        (b'{"finish_reason":7}', None),
        (b"", None),
    ],
)
def test_why_an_answer_ended(tail: bytes, reason: str | None) -> None:
    """Each dialect's word for the end, and nothing where an answer is not at its end."""
    assert finish_reason([tail]) == reason
    assert finish_reason([tail[:9], tail[9:]]) == reason


@pytest.mark.parametrize("key", ["finish_reason", "stop_reason", "status", "type", "incomplete_details"])
def test_a_model_can_not_write_its_own_end(key: str) -> None:
    """Text that looks like an end, even as JSON in JSON, is text."""
    fake = json.dumps({"object": "response", key: "response.completed", "status": "completed"})
    for _ in range(3):
        fake = json.dumps({"content": fake})
        assert finish_reason([fake.encode()]) is None


@pytest.mark.parametrize("tools", [0, 3, 40])
@pytest.mark.parametrize("type_first", [True, False])
def test_a_response_that_repeats_its_tools_has_ended(tools: int, type_first: bool) -> None:
    """The last event of a response repeats what was asked, with a `type` in each corner of each tool."""
    properties = {name: {"type": "string"} for name in "abcde"}
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": properties}}
    response = {"object": "response", "incomplete_details": None, "tools": [tool] * tools}
    fields: dict[str, object] = {"type": "response.completed", "response": response}
    if not type_first:
        fields = dict(reversed(fields.items()))
    event = b"event: response.completed\ndata: " + json.dumps(fields).encode() + b"\n\n"
    assert finish_reason([event]) == "completed"


def test_a_models_text_is_no_end() -> None:
    """An answer that consists of an end's very words."""
    assert (
        finish_reason([b'data: {"type":"response.output_text.done","text":"response.completed"}\n\n']) is None
    )


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", [b'"finish_reason":null,', b'"type":"response.', b"x"])
def test_ends_are_sought_near_the_end(piece: bytes) -> None:
    """A long answer without an end does not hold up the event loop."""
    assert finish_reason([piece * (4 * 1024 * 1024 // len(piece))]) is None


# --- both at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}',
        b'{"choices":[{"text":"a","finish_reason":"length"},{"text":"b","finish_reason":"stop"},{"finish_reason":null}],'
        b'"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":5}}}',
        b'{"choices":[{"finish_reason":"tool_calls","message":{"content":"{\\"usage\\":{\\"prompt_tokens\\":1}}"}}],'
        b'"usage":{"prompt_tokens":7,"completion_tokens":3},"timings":{"cache_n":4}}',
    ],
)
def test_a_whole_completion_says_the_same_to_both_ways_of_reading(body: bytes) -> None:
    """Decoding a short answer whole finds exactly what the searches from its end find."""
    assert read_completion(body) == (read_usage([body]), finish_reason([body]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"choices":[],"usage":{"prompt_tokens":7}}',
        b'{"choices":[{"finish_reason":7}],"usage":{"prompt_tokens":7}}',
        b'{"choices":[{"finish_reason":"a b"}],"usage":{"prompt_tokens":7}}',
        b'{"choices":[{"finish_reason":"' + b"a" * 41 + b'"}],"usage":{"prompt_tokens":7}}',
        b'{"choices":[{"finish_reason":"stop"}],"usage":{}}',
        b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":-7}}',
        b'{"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":6}}',
        b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":7},"x":"' + b"a" * 5000 + b'"}',
        b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":7},"x":' + b"[" * 4000,
    ],
)
def test_odd_and_long_answers_are_left_to_the_searches(body: bytes) -> None:
    """Other dialects, broken or long bodies and strange reasons are not read whole, and raise nothing."""
    assert read_completion(body) is None
