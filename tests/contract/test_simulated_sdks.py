"""The simulated engine through the official SDKs: what real clients parse, it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam

from inferry.testing.simulated_engine import running_simulated_engine

KEY = "k3y"
QUESTION: ChatCompletionMessageParam = {"role": "user", "content": "Where do all the rivers go in the end?"}
MESSAGE: MessageParam = {"role": "user", "content": "Where do all the rivers go in the end?"}


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with running_simulated_engine(served_name="chat", key=KEY) as url:
        yield url


def sync_openai(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url + "/v1", api_key=KEY, max_retries=0, timeout=30)


def async_openai(base_url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=base_url + "/v1", api_key=KEY, max_retries=0, timeout=30)


def sync_anthropic(base_url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base_url, auth_token=KEY, api_key=None, max_retries=0, timeout=30)


def async_anthropic(base_url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=base_url, auth_token=KEY, api_key=None, max_retries=0, timeout=30
    )


async def test_openai_chat_in_both_forms_of_the_sdk(base_url: str) -> None:
    """Sync and async, whole and streamed: the same words, roles, reasons and sums."""

    def in_sync() -> tuple[str, str]:
        with sync_openai(base_url) as client:
            whole = client.chat.completions.create(model="chat", messages=[QUESTION])
            with client.chat.completions.create(model="chat", messages=[QUESTION], stream=True) as chunks:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert whole.usage is not None
            assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
            assert whole.choices[0].message.role == "assistant"
            return whole.choices[0].message.content or "", text

    whole, text = await asyncio.to_thread(in_sync)
    assert whole == text != ""
    async with async_openai(base_url) as client:
        answer = await client.chat.completions.create(model="chat", messages=[QUESTION])
        assert answer.choices[0].message.content == whole
        assert answer.choices[0].finish_reason == "stop"
        stream = await client.chat.completions.create(
            model="chat", messages=[QUESTION], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert answer.usage is not None
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


async def test_openai_completions(base_url: str) -> None:
    """Texts and ids as prompt, several choices, stop strings, echo."""
    async with async_openai(base_url) as client:
        one = await client.completions.create(model="chat", prompt="Once upon a time", max_tokens=12)
        assert one.choices[0].finish_reason == "length"
        stop = one.choices[0].text.split()[3]
        two = await client.completions.create(
            model="chat", prompt=["Once upon a time", "Later"], max_tokens=12, n=2, stop=[stop], echo=True
        )
        assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
        assert two.choices[0].text == "Once upon a time" + one.choices[0].text.partition(stop)[0]
        assert two.choices[2].text.startswith("Later")
        stream = await client.completions.create(
            model="chat", prompt="Once upon a time", max_tokens=12, stream=True
        )
        assert "".join([c.choices[0].text async for c in stream]) == one.choices[0].text


async def test_openai_responses(base_url: str) -> None:
    """The SDK's own accumulation of events gives the whole answer, and its usage adds up."""
    async with async_openai(base_url) as client:
        whole = await client.responses.create(model="chat", input="Where to?", instructions="Be brief.")
        assert whole.status == "completed"
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
        async with client.responses.stream(
            model="chat", input="Where to?", instructions="Be brief."
        ) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == whole.output_text != ""
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        short = await client.responses.create(model="chat", input="Where to?", max_output_tokens=2)
        assert short.status == "incomplete"


async def test_openai_embeddings_and_models(base_url: str) -> None:
    """Vectors come in both encodings alike; the list of models says who it is."""
    async with async_openai(base_url) as client:
        packed = await client.embeddings.create(model="chat", input=["a b", "c"], dimensions=16)
        plain = await client.embeddings.create(
            model="chat", input=["a b", "c"], dimensions=16, encoding_format="float"
        )
        assert [len(item.embedding) for item in packed.data] == [16, 16]
        assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
        assert packed.usage.prompt_tokens == 3
        models = [model async for model in client.models.list()]
        assert [(model.id, model.owned_by) for model in models] == [("chat", "inferry-simulated")]


async def test_openai_errors_are_typed(base_url: str) -> None:
    """A wrong model, a wrong key, a bad number: each is the SDK's own class, with a message."""
    async with async_openai(base_url) as client:
        with pytest.raises(openai.NotFoundError, match="`nope` does not exist"):
            await client.chat.completions.create(model="nope", messages=[QUESTION])
        with pytest.raises(openai.BadRequestError, match="at most 8"):
            await client.chat.completions.create(model="chat", messages=[QUESTION], n=9)
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="other").models.list()
        stream = await client.chat.completions.create(
            model="chat",
            messages=[QUESTION],
            stream=True,
            extra_headers={"x-simulate-fault": "error_status;after_tokens=1"},
        )
        with pytest.raises(openai.APIError, match="simulated fault"):
            async for _ in stream:
                pass


async def test_anthropic_messages_in_both_forms_of_the_sdk(base_url: str) -> None:
    """Sync and async, whole and streamed: the same text, stop reason and counts."""

    def in_sync() -> anthropic.types.Message:
        with sync_anthropic(base_url) as client:
            return client.messages.create(model="chat", max_tokens=300, messages=[MESSAGE])

    whole = await asyncio.to_thread(in_sync)
    (block,) = whole.content
    assert block.type == "text"
    assert whole.stop_reason == "end_turn"
    async with async_anthropic(base_url) as client:
        async with client.messages.stream(model="chat", max_tokens=300, messages=[MESSAGE]) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_message()
        assert [part.text for part in final.content if part.type == "text"] == [block.text]
        assert final.usage.output_tokens == whole.usage.output_tokens
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        counted = await client.messages.count_tokens(model="chat", messages=[MESSAGE])
        assert counted.input_tokens == whole.usage.input_tokens
        stop = block.text.split()[2]
        cut = await client.messages.create(
            model="chat", max_tokens=300, messages=[MESSAGE], stop_sequences=[stop], system=""
        )
        assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)
        short = await client.messages.create(model="chat", max_tokens=2, messages=[MESSAGE])
        assert short.stop_reason == "max_tokens"


async def test_anthropic_errors_are_typed(base_url: str) -> None:
    """Errors have Anthropic's shape at Anthropic's route, also in mid-stream."""
    async with async_anthropic(base_url) as client:
        with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
            await client.messages.create(model="nope", max_tokens=5, messages=[MESSAGE])
        with pytest.raises(anthropic.APIStatusError, match="simulated fault"):
            async with client.messages.stream(
                model="chat",
                max_tokens=300,
                messages=[MESSAGE],
                extra_headers={"x-simulate-fault": "error_status;after_tokens=1"},
            ) as stream:
                await stream.get_final_message()
