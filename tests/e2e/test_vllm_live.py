"""vLLM and transformers, real and on the CPU, beside llama.cpp behind one gateway: to a client they are alike.

The engines are installed and the model is converted by the `inferry` command itself, once for each engine.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from inferry.engines.adapter import EngineMetrics
from tests.contract.cut_answers import broken_continuations

from .engine_pair import LLAMACPP, START_S, TRANSFORMERS, VLLM, Pair, engine_pair, group_of
from .inferry_process import process_gone, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the recipes are for Linux x86-64",
    ),
]

SIDES = pytest.mark.parametrize("side", [0, 1], ids=["engine", "llamacpp"])
QUESTION = [{"role": "user", "content": "Where is the Eiffel Tower?"}]
LENGTH = 1800
ENDLESS = {"prompt": "1 2 3 4 5 6 7 8 9 10 11 12", "temperature": 0, "max_tokens": LENGTH, "stream": True}
"""At temperature 0 the model counts on and on. Where arithmetic is another (bfloat16 by some CPUs), it might end sooner."""
NO_END = {"ignore_eos": True}
"""For engines that know it: all that count their requests."""


@pytest.fixture(scope="module", params=[VLLM, TRANSFORMERS], ids=lambda engine: str(engine.name))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample_model: Any
) -> Iterator[Pair]:
    with engine_pair(tmp_path_factory.mktemp(request.param.name), request.param, sample_model) as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    """Of a whole stream, without the [DONE] at its end."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def said(stream: list[dict[str, Any]]) -> str:
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in stream if each["choices"])


def test_chat_is_alike(pair: Pair) -> None:
    """The same question has the right answer on both, under the deployment's name, with a reason for its end, and
    with as many prompt tokens: both engines apply the model's own template."""
    prompt_tokens = set()
    for name in pair.names:
        answer = pair.post("/v1/chat/completions", name, messages=QUESTION, temperature=0, max_tokens=40)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert "Paris" in body["choices"][0]["message"]["content"]
        assert body["object"] == "chat.completion"
        assert body["model"].removesuffix("@main") == name  # transformers adds the revision of its model
        assert body["choices"][0]["finish_reason"] == "stop"
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        prompt_tokens.add(usage["prompt_tokens"])
    assert len(prompt_tokens) == 1


def test_completions_are_alike(pair: Pair) -> None:
    """A bare text is continued, as far as it may be."""
    for name in pair.names:
        prompt = "The capital of France is"
        answer = pair.post("/v1/completions", name, prompt=prompt, temperature=0, max_tokens=4)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert "Paris" in body["choices"][0]["text"]
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 4


@SIDES
def test_streams_are_alike(pair: Pair, side: int) -> None:
    """A stream says what the whole answer says, under one id; usage comes at its end to those who ask, and only them."""
    name = pair.names[side]
    fields = {"messages": QUESTION, "temperature": 0, "max_tokens": 40}
    whole = pair.post("/v1/chat/completions", name, **fields).json()
    plain = pair.post("/v1/chat/completions", name, stream=True, **fields).text
    usage_too = {"include_usage": True}
    asked = pair.post("/v1/chat/completions", name, stream=True, stream_options=usage_too, **fields).text
    for stream in map(events, (plain, asked)):
        assert said(stream) == whole["choices"][0]["message"]["content"]
        assert len({each["id"] for each in stream}) == 1
        ends = [each["choices"][0].get("finish_reason") for each in stream if each["choices"]]
        assert [each for each in ends if each] == ["stop"]
    usage = events(asked)[-1]["usage"]
    for key in ("prompt_tokens", "completion_tokens"):
        assert usage[key] == whole["usage"][key]
    if name == LLAMACPP or pair.engine.ends_streams_as_openai:
        assert plain.endswith("data: [DONE]\n\n")
        assert not any(each.get("usage") for each in events(plain))


def test_what_an_engine_lacks_is_refused_alike(pair: Pair) -> None:
    """Embeddings are refused by the gateway, with one and the same answer for both."""
    refused = [pair.post("/v1/embeddings", name, input="Hello") for name in pair.names]
    assert [each.status_code for each in refused] == [404, 404]
    assert [each.json()["error"]["code"] for each in refused] == ["unsupported_route"] * 2


def test_tokens_are_alike(pair: Pair) -> None:
    """/tokenize takes the same body for both engines, and gives the same tokens."""
    if not pair.engine.tokenizes:
        pytest.skip(f"{pair.engine.name} has no /tokenize")
    found = []
    for name in pair.names:
        answer = pair.post("/tokenize", name, prompt="Hello there, river", add_special_tokens=False)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["tokens"])
    assert found[0] == found[1]
    assert len(found[0]) >= 3


def test_half_an_answer_is_gone_on_with(pair: Pair) -> None:
    """Greedy answers that are cut and continued are those that nobody cut, through the gateway too."""

    def stream(path: str, body: dict[str, Any]) -> str:
        answer = pair.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.text

    for name, engine in zip(pair.names, (pair.engine.name, "llamacpp"), strict=True):
        assert broken_continuations(engine, name, stream, (1, 6, 13)) == []


@SIDES
def test_a_client_that_leaves_stops_its_engine(pair: Pair, side: int) -> None:
    """When a stream's client is gone in the middle, the engine ends that request long before its length, and the ledger
    says cancelled.

    The processes of vLLM's engine spin on two cores while it works, so that its own server may see the closed connection
    only after seconds, at worst after the answer: a server starved so is asked again.
    """
    name = pair.names[side]
    seen = []
    for _ in range(5):
        seen.append(left_in_the_middle(pair, name))
        cancelled, kept, generated = seen[-1]
        if cancelled == 1 and 8 <= kept < LENGTH and (generated or kept) < LENGTH:
            return
    raise AssertionError(f"(cancelled, tokens in the ledger, tokens the engine generated): {seen}")


def left_in_the_middle(pair: Pair, name: str) -> tuple[int, int, int | None]:
    """How many requests the ledger then has more as cancelled, with how many tokens, and how many the engine says to
    have generated for it (None: it counts nothing)."""
    counts = pair.counts_its_requests(name)
    before, engine_before = total(pair, name), pair.counts(name) if counts else None
    fields = {"model": name, **ENDLESS, **(NO_END if counts else {})}
    with pair.client.stream("POST", "/v1/completions", json=fields) as answer:
        assert answer.status_code == 200
        pieces = (line for line in answer.iter_lines() if '"text"' in line)
        assert len(list(itertools.islice(pieces, 8))) == 8
    wait_for(f"{name} has nothing to do", lambda: is_idle(pair, name), 60 if counts else 30)
    wait_for("the ledger has it", lambda: total(pair, name)["requests"] == before["requests"] + 1, 20)
    after = total(pair, name)
    generated = grown("tokens_generated", engine_before, pair.counts(name)) if engine_before else None
    return (
        after["cancelled"] - before["cancelled"],
        after["completion_tokens"] - before["completion_tokens"],
        generated,
    )


def is_idle(pair: Pair, name: str) -> bool:
    """By what the engine says that it has running; one that says nothing is watched at work."""
    if pair.counts_its_requests(name):
        return pair.counts(name).running == 0
    before_s = pair.used_cpu_s(name)
    time.sleep(1)
    return pair.used_cpu_s(name) - before_s < 0.1


@SIDES
def test_the_ledger_has_what_engines_counted(pair: Pair, side: int) -> None:
    """Over a handful of answers, streams among them, the engine's own counters and the ledger grow by the same."""
    name = pair.names[side]
    if not pair.counts_its_requests(name):
        pytest.skip(f"{pair.engine.name} has no counters")
    ledger_before, engine_before = total(pair, name), pair.counts(name)
    for number in range(4):
        messages = [{"role": "user", "content": f"What is {number} and {number}?"}]
        fields = {"messages": messages, "stream": number % 2 == 1, "max_tokens": 8 + number}
        answer = pair.post("/v1/chat/completions", name, **fields)
        assert answer.status_code == 200, answer.text
    wait_for(
        "all are in the ledger", lambda: total(pair, name)["requests"] == ledger_before["requests"] + 4, 20
    )
    ledger, engine = total(pair, name), pair.counts(name)
    assert ledger["prompt_tokens"] - ledger_before["prompt_tokens"] == grown(
        "tokens_prompt", engine_before, engine
    )
    generated = grown("tokens_generated", engine_before, engine)
    assert ledger["completion_tokens"] - ledger_before["completion_tokens"] == generated
    assert generated >= 4


def grown(counter: str, before: EngineMetrics, after: EngineMetrics) -> int:
    return int(getattr(after, counter)) - int(getattr(before, counter))


def total(pair: Pair, name: str) -> dict[str, Any]:
    """What the ledger has of a deployment, in sum."""
    done = pair.inferry.run("usage", "--deployment", name, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["total"]
    return found


def test_a_killed_engine_comes_back(pair: Pair) -> None:
    """kill -9: none of its processes is left over, the other deployment answers meanwhile, and it serves again."""
    name = pair.engine.deployment
    victim = pair.replica(name)["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_for("its group is gone", lambda: process_gone(victim) and not group_of(victim), 30)
    other = pair.post("/v1/chat/completions", LLAMACPP, messages=QUESTION, temperature=0, max_tokens=24)
    assert "Paris" in other.text

    def back() -> bool:
        now = pair.replica(name)
        return bool(now["state"] == "ready" and now["restarts"] == 1 and now["pid"] != victim)

    wait_for(f"{name} is back", back, START_S)
    again = pair.post("/v1/chat/completions", name, messages=QUESTION, temperature=0, max_tokens=40)
    assert "Paris" in again.json()["choices"][0]["message"]["content"]


def test_it_ends_in_order_and_the_accounts_hold(pair: Pair) -> None:
    """SIGTERM ends both engines; each difference between their counters and the ledger has an explanation."""
    groups = [pair.replica(name)["pid"] for name in pair.names]
    pair.up.process.send_signal(signal.SIGTERM)
    assert pair.up.process.wait(60) == 0
    wait_for("no engine is left", lambda: not any(map(group_of, groups)), 10)
    lives = pair.ledger("reconcile")
    counted = {name for name in pair.names if pair.counts_its_requests(name)}
    assert {life["deployment"] for life in lives} == counted
    for life in lives:
        for each in life["comparisons"]:
            assert each["verdict"] in ("exact", "explained"), life
