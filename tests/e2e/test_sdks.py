"""The official SDKs through the gateway, in front of the real embedded engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from .inferry_process import Inferry

pytestmark = pytest.mark.engine
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Where is the Eiffel Tower?"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, sample_model: Path) -> Iterator[str]:
    """The address of a gateway over two real replicas."""
    inferry = Inferry(tmp_path_factory.mktemp("sdks"))
    inferry.write(
        f"deployments:\n  chat:\n    engine: llamacpp\n    model: file:{sample_model}\n"
        "    replicas: 2\n    context_tokens: 1024\n    aliases: [gpt-4o-mini]\n"
    )
    with inferry.up() as up:
        yield up.wait_ready()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_openai_chat(client: openai.OpenAI) -> None:
    """A plain chat completion, by the deployment's name and by an alias."""
    for model in ("chat", "gpt-4o-mini"):
        answer = client.chat.completions.create(
            model=model, messages=QUESTION, temperature=0, max_completion_tokens=20
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.usage is not None
        assert 0 < answer.usage.completion_tokens <= 20
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("usage", [True, False])
def test_openai_stream(client: openai.OpenAI, usage: bool) -> None:
    """The streamed text is the plain text; usage comes last if and only if it was asked for."""
    plain = client.chat.completions.create(model="chat", messages=QUESTION, temperature=0, max_tokens=20)
    stream = client.chat.completions.create(
        model="chat",
        messages=QUESTION,
        temperature=0,
        max_tokens=20,
        stream=True,
        **({"stream_options": {"include_usage": True}} if usage else {}),  # type: ignore[call-overload]
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert sum(bool(chunk.choices) and chunk.choices[0].finish_reason is not None for chunk in chunks) == 1
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage is not None for chunk in chunks].count(True) == (1 if usage else 0)
    assert (chunks[-1].usage is not None) is usage


async def test_openai_async_and_many_at_once(url: str) -> None:
    """Twelve concurrent requests all get whole answers."""
    import asyncio

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    client.chat.completions.create(
                        model="chat", messages=QUESTION, temperature=0, max_tokens=8, seed=seed
                    )
                )
                for seed in range(12)
            ]
        assert all(task.result().choices[0].message.content for task in tasks)


def test_openai_completions_models_and_responses(client: openai.OpenAI) -> None:
    """Completions, the model list, and the Responses API (plain and streamed)."""
    done = client.completions.create(model="chat", prompt="One, two, three,", temperature=0, max_tokens=8)
    assert done.choices[0].text
    assert [model.id for model in client.models.list()] == ["chat", "gpt-4o-mini"]
    assert client.models.retrieve("chat").id == "chat"
    response = client.responses.create(
        model="chat", input="Where is the Eiffel Tower?", temperature=0, max_output_tokens=20
    )
    assert "Paris" in response.output_text
    kinds = [
        event.type
        for event in client.responses.create(
            model="chat", input="Hi", temperature=0, max_output_tokens=4, stream=True
        )
    ]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


def test_openai_errors_are_typed(client: openai.OpenAI) -> None:
    """Wrong model, wrong value and unserved route raise the SDK's own exception classes."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=-1)
    assert wrong.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError) as unserved:
        client.embeddings.create(model="chat", input="x")
    assert unserved.value.code == "unsupported_route"
    with pytest.raises(openai.BadRequestError):  # the engine's own word: longer than its context
        client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "word " * 3000}])


def test_closing_a_stream_frees_the_engine(client: openai.OpenAI, url: str) -> None:
    """A stream that is closed early is cancelled: the gateway counts it, and its slot is free at once."""
    stream = client.chat.completions.create(
        model="chat", messages=QUESTION, max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    deadline_polls = 200
    for _ in range(deadline_polls):
        page = httpx.get(f"{url}/metrics").text
        idle = all(
            line.endswith(" 0.0")
            for line in page.splitlines()
            if line.startswith("inferry_requests_in_flight{")
        )
        if 'ending="cancelled"' in page and idle:
            return
    raise AssertionError(page)


def test_anthropic_messages(url: str) -> None:
    """The Anthropic SDK: plain, streamed, counted, and an error in its own shape."""
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Where is the Eiffel Tower?"}]
    greedy = {"temperature": 0}  # the SDK has no parameter for it any more
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0) as client:
        answer = client.messages.create(model="chat", messages=messages, max_tokens=20, extra_body=greedy)
        [block] = answer.content
        assert block.type == "text"
        assert "Paris" in block.text
        assert answer.usage.output_tokens > 0
        with client.messages.stream(
            model="chat", messages=messages, max_tokens=20, extra_body=greedy
        ) as stream:
            assert "".join(stream.text_stream) == block.text
        assert client.messages.count_tokens(model="chat", messages=messages).input_tokens > 5
        with pytest.raises(anthropic.NotFoundError) as unknown:
            client.messages.create(model="claude", messages=messages, max_tokens=5)
        assert "Known: chat" in str(unknown.value)


# --- engines that others run --------------------------------------------------------------------------

EVENTS = [f'data: {{"n":{number}}}\n\n'.encode() for number in range(5)] + [
    b": ping\n\n",
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]


class _PlainServer(BaseHTTPRequestHandler):
    """The standard library's server, with a stream that ends when the connection does."""

    hits: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.hits.append(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in EVENTS:
            self.wfile.write(event)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None: ...


def test_outside_engines_are_relayed_byte_for_byte_and_in_turn(tmp_path: Path) -> None:
    """`engine: openai` in front of two plain HTTP servers: the stream is theirs to the byte, and both serve."""
    servers, hits = [], []
    for _ in range(2):
        seen: list[dict[str, Any]] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Plain", (_PlainServer,), {"hits": seen}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        hits.append(seen)
    inferry = Inferry(tmp_path)
    endpoints = ", ".join(f"http://127.0.0.1:{server.server_port}/v1" for server in servers)
    inferry.write(
        "deployments:\n  outside:\n    engine: openai\n    model: served-name\n"
        f"    endpoints: [{endpoints}]\n    routing: {{policy: round_robin}}\n"
    )
    try:
        with inferry.up() as up:
            url = up.wait_ready()
            for _ in range(200):
                if httpx.get(f"{url}/health").json()["status"] == "ready":
                    break
            for number in range(10):
                answer = httpx.post(
                    f"{url}/v1/chat/completions",
                    json={
                        "model": "outside",
                        "messages": [{"role": "user"}],
                        "stream": True,
                        "n": 1 + number,
                    },
                )
                assert answer.content == b"".join(EVENTS)
            assert [len(seen) for seen in hits] == [5, 5]
            assert {body["model"] for seen in hits for body in seen} == {"served-name"}
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
