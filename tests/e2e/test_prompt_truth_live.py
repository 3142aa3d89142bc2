"""An engine that cuts prompts or uses another template, found out by a running gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from .gateway_harness import SSE_HEAD, Seen, Upstream, chunk, json_answer
from .inferry_process import Inferry, wait_for
from .live_upstream import live_upstream

pytest.importorskip("tokenizers", reason="needs the 'prompt-truth' extra")
pytest.importorskip("jinja2", reason="needs the 'prompt-truth' extra")

CUT = 512
THINK_S = 0.2
"""Longer than a count takes, as with real engines."""


async def engine(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """One token per word; computes 512 at most, and says 7 more than there are if it is asked to."""
    if not seen.body:
        writer.write(json_answer(b'{"object":"list","data":[]}'))
        return
    body = json.loads(seen.body)
    words = sum(len(message["content"].split()) for message in body["messages"])
    tokens = min(words, CUT) + (7 if body.get("user") == "odd" else 0)
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    await asyncio.sleep(THINK_S)
    if not body.get("stream"):
        message = {"role": "assistant", "content": "Yes."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        writer.write(json_answer(json.dumps({"id": "c", "choices": choices, "usage": usage}).encode()))
        return
    writer.write(SSE_HEAD)
    delta: dict[str, Any] = {"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}
    for event in ({"id": "c", "choices": [delta]}, {"id": "c", "choices": [], "usage": usage}):
        writer.write(chunk(f"data: {json.dumps(event)}\n\n".encode()))
    writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def write_tokenizer(folder: Path) -> Path:
    """A model's folder: every word is one token, and the template adds none."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({"word": 0, "[?]": 1}, unk_token="[?]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    return folder


class Running:
    def __init__(self, url: str, upstream: Upstream) -> None:
        self.client = httpx.Client(base_url=url, timeout=30)
        self.upstream = upstream

    def ask(self, model: str, words: int, **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": "word " * words}]
        return self.client.post("/v1/chat/completions", json={"model": model, "messages": messages, **fields})

    def reached_engine(self) -> int:
        return sum(bool(seen.body) for seen in self.upstream.seen)

    def metric(self, model: str, finding: str) -> float:
        start = f'inferry_prompt_truth_total{{deployment="{model}",finding="{finding}"}}'
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    inferry = Inferry(tmp_path_factory.mktemp("truth"))
    write_tokenizer(inferry.folder / "model")
    with live_upstream(engine) as upstream:

        def deployment(action: str) -> dict[str, Any]:
            place = f"http://127.0.0.1:{upstream.port}/v1"
            truth = {"tokenizer": "model", "action": action}
            return {"engine": "openai", "model": "m", "endpoints": [place], "prompt_truth": truth}

        deployments = {
            "warned": deployment("warn"),
            "streamed": deployment("warn"),
            "refused": deployment("reject"),
        }
        inferry.write(yaml.safe_dump({"deployments": deployments}))
        with inferry.up() as up:
            running = Running(up.wait_ready(), upstream)
            with running.client:
                yield running


def test_a_cut_is_told_with_the_first_answer(running: Running) -> None:
    """The header has both counts, the metric counts it; streams, whose heads go out first, tell it from then on; and a
    prompt that fits is never warned of."""
    fits = running.ask("warned", 100)
    assert (fits.status_code, fits.headers.get("x-inferry-warning")) == (200, None)
    cut = running.ask("warned", 1000)
    assert cut.status_code == 200
    assert cut.headers["x-inferry-warning"] == "prompt-truncated; engine=512 expected=1000"
    stream = running.ask("warned", 900, stream=True)
    assert stream.headers["x-inferry-warning"] == "prompt-truncated; engine=512 expected=900"
    assert stream.content.endswith(b"data: [DONE]\n\n")
    wait_for("all are counted", lambda: running.metric("warned", "truncated") == 2)
    assert running.metric("warned", "ok") == 1
    assert running.ask("warned", 500).headers.get("x-inferry-warning") is None


def test_a_stream_teaches_too(running: Running) -> None:
    """The first stream that is cut has no warning, but is counted; from the next on, all have it."""
    first = running.ask("streamed", 1000, stream=True)
    assert first.headers.get("x-inferry-warning") is None
    wait_for("it is counted", lambda: running.metric("streamed", "truncated") == 1)
    second = running.ask("streamed", 1000, stream=True)
    assert second.headers["x-inferry-warning"] == "prompt-truncated; engine=512 expected=1000"


def test_a_cut_is_refused_and_then_not_even_sent(running: Running) -> None:
    """With `reject`: 400 in place of the first answer, and once it is known, before anything is sent, streams too."""
    for sent, fields in ((1, {}), (0, {}), (0, {"stream": True})):
        before = running.reached_engine()
        refused = running.ask("refused", 1000, **fields)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "1000 tokens" in refused.json()["error"]["message"]
        assert running.reached_engine() - before == sent
    assert running.ask("refused", 400).status_code == 200
    assert running.metric("refused", "truncated") == 1


def test_another_template_is_told_or_refused(running: Running) -> None:
    """More tokens than the model's own template gives: a warning, or 422."""
    odd = running.ask("warned", 50, user="odd")
    assert odd.headers["x-inferry-warning"] == "prompt-wrong-template; engine=57 expected=50"
    refused = running.ask("refused", 50, user="odd")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "prompt_mismatch")
    assert running.metric("refused", "wrong_template") == 1
