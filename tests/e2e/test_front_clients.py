"""TGI's and Ollama's own client libraries through the gateway, with keys, in front of the real embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .inferry_process import Inferry

huggingface_hub = pytest.importorskip("huggingface_hub")
ollama = pytest.importorskip("ollama")
text_generation = pytest.importorskip("text_generation")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    # The text-generation client, which nobody maintains any more: pydantic's old names, connections left open.
    pytest.mark.filterwarnings("ignore:The `dict` method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
COUNT = "One, two, three,"
QUESTION = [{"role": "user", "content": "Where is the Eiffel Tower?"}]
GREEDY = {"temperature": 0, "num_predict": 8}
FILE = """\
gateway: {{auth: keys}}
deployments:
  chat:
    engine: llamacpp
    model: file:{model}
    context_tokens: 1024
    aliases: [tgi]
"""


@dataclass
class Live:
    """A running Inferry."""

    url: str
    key: str


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, sample_model: Path) -> Iterator[Live]:
    """A gateway that asks for keys, over one real replica."""
    inferry = Inferry(tmp_path_factory.mktemp("fronts"))
    inferry.write(FILE.format(model=sample_model))
    with inferry.up() as up:
        url = up.wait_ready()
        yield Live(url, up.new_key("acme"))


@pytest.fixture
def tgi(live: Live) -> Any:
    """`huggingface_hub`'s client."""
    return huggingface_hub.InferenceClient(base_url=live.url, api_key=live.key)


@pytest.fixture
def old_tgi(live: Live) -> Any:
    """The `text-generation` client."""
    headers = {"Authorization": f"Bearer {live.key}"}
    return text_generation.Client(live.url, headers=headers, timeout=120)


@pytest.fixture
def llama(live: Live) -> Iterator[Any]:
    """Ollama's client."""
    with ollama.Client(live.url, headers={"Authorization": f"Bearer {live.key}"}) as client:
        yield client


# --- TGI ----------------------------------------------------------------------------------------------


def test_inference_client_generates(tgi: Any) -> None:
    """`text_generation` gives the whole text, with and without details, whose count is the engine's own."""
    text = tgi.text_generation(COUNT, max_new_tokens=6, return_full_text=False)
    assert "four" in text
    assert tgi.text_generation(COUNT, max_new_tokens=6, return_full_text=True) == COUNT + text
    detailed = tgi.text_generation(COUNT, max_new_tokens=6, return_full_text=False, details=True, seed=7)
    assert detailed.generated_text == text
    assert (detailed.details.generated_tokens, detailed.details.finish_reason) == (6, "length")
    assert detailed.details.seed == 7


def test_inference_client_streams(tgi: Any) -> None:
    """A stream's texts are the whole text; its details come with the last event, and only there."""
    text = tgi.text_generation(COUNT, max_new_tokens=6, return_full_text=False)
    assert "".join(tgi.text_generation(COUNT, max_new_tokens=6, stream=True)) == text
    *pieces, last = tgi.text_generation(COUNT, max_new_tokens=6, stream=True, details=True)
    assert "".join(piece.token.text for piece in pieces) == text
    assert all(piece.details is None and not piece.token.special for piece in pieces)
    assert [piece.index for piece in [*pieces, last]] == list(range(1, len(pieces) + 2))
    assert last.generated_text.endswith(text)
    assert (last.details.generated_tokens, last.token.special) == (6, True)


def test_inference_client_stops_and_follows_a_grammar(tgi: Any) -> None:
    """A stop text ends an answer, and a grammar shapes it."""
    stopped = tgi.text_generation(
        COUNT, max_new_tokens=20, stop=["six"], details=True, return_full_text=False
    )
    assert "five" in stopped.generated_text
    assert "six" not in stopped.generated_text
    assert stopped.details.finish_reason in ("eos_token", "stop_sequence")
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    shaped = tgi.text_generation(
        "Where is the Eiffel Tower? As JSON:",
        max_new_tokens=30,
        grammar={"type": "json", "value": schema},
        return_full_text=False,
    )
    assert "".join(shaped.split()) == '{"city":"Paris"}'


def test_inference_client_chats(tgi: Any) -> None:
    """`chat_completion`, whole and streamed, by the deployment's name and by an alias."""
    whole = tgi.chat_completion(QUESTION, model="chat", max_tokens=20, temperature=0.0)
    text = whole.choices[0].message.content
    assert "Paris" in text
    chunks = tgi.chat_completion(QUESTION, model="tgi", max_tokens=20, temperature=0.0, stream=True)
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in said) == text


def test_inference_client_is_told_what_is_wrong(tgi: Any) -> None:
    """A parameter without a counterpart raises the client's own ValidationError, which names it."""
    with pytest.raises(huggingface_hub.errors.ValidationError, match=r"parameters\.best_of"):
        tgi.text_generation(COUNT, max_new_tokens=2, best_of=2, do_sample=True)


def test_text_generation_client(old_tgi: Any) -> None:
    """The text-generation client: generate, generate_stream, and its own errors."""
    whole = old_tgi.generate(COUNT, max_new_tokens=6)
    assert "four" in whole.generated_text
    assert whole.details.generated_tokens == 6
    assert whole.details.finish_reason.value == "length"
    *pieces, last = old_tgi.generate_stream(COUNT, max_new_tokens=6)
    assert "".join(piece.token.text for piece in pieces) == whole.generated_text == last.generated_text
    assert last.details.generated_tokens == 6
    with pytest.raises(text_generation.errors.ValidationError, match="watermark"):
        old_tgi.generate(COUNT, watermark=True)


# --- Ollama -------------------------------------------------------------------------------------------


def test_ollama_chats(llama: Any) -> None:
    """`chat`, by a name with `:latest` too; counts are the engine's, durations are there."""
    answer = llama.chat("chat:latest", QUESTION, options=GREEDY)
    assert "Paris" in answer.message.content
    assert (answer.model, answer.done, answer.done_reason) == ("chat:latest", True, "length")
    assert answer.eval_count == 8
    assert answer.prompt_eval_count > 8
    assert 0 < answer.eval_duration < answer.total_duration


def test_ollama_streams(llama: Any) -> None:
    """A stream's pieces are the whole text; only the last line is done, and has the counts."""
    whole = llama.chat("chat", QUESTION, options=GREEDY)
    *pieces, last = llama.chat("chat", QUESTION, options=GREEDY, stream=True)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * len(pieces)
    assert (last.done, last.done_reason, last.eval_count) == (True, "length", 8)
    assert last.prompt_eval_count == whole.prompt_eval_count


def test_ollama_generates(llama: Any) -> None:
    """`generate` asks as a chat does; with `raw`, it goes on with the prompt itself."""
    asked = llama.generate("chat", QUESTION[0]["content"], options=GREEDY)
    assert asked.response == llama.chat("chat", QUESTION, options=GREEDY).message.content
    raw = llama.generate("chat", COUNT, raw=True, options=GREEDY)
    assert "four" in raw.response
    *pieces, last = llama.generate("chat", COUNT, raw=True, options=GREEDY, stream=True)
    assert "".join(piece.response for piece in pieces) == raw.response
    assert (last.done, last.eval_count) == (True, 8)


def test_ollama_formats_its_answer(llama: Any) -> None:
    """A JSON schema as `format` shapes the answer."""
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
    answer = llama.chat("chat", QUESTION, format=schema | {"additionalProperties": False})
    assert "".join(answer.message.content.split()) == '{"city":"Paris"}'


def test_ollama_lists_and_shows(llama: Any) -> None:
    """`list`, `ps` and `show` know the deployment and its alias; an empty prompt finds the model loaded."""
    assert [model.model for model in llama.list().models] == ["chat", "tgi"]
    assert [model.model for model in llama.ps().models] == ["chat", "tgi"]
    assert llama.show("chat").capabilities == ["completion"]
    loaded = llama.generate("chat")
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")


def test_ollama_is_told_what_is_wrong(llama: Any) -> None:
    """An unknown model and a parameter without a counterpart raise ResponseError with the status and the words."""
    with pytest.raises(ollama.ResponseError, match="Known: chat, tgi") as unknown:
        llama.chat("llama3", QUESTION)
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="'suffix' is not supported") as refused:
        llama.generate("chat", "def f(", suffix="return 1")
    assert refused.value.status_code == 400


async def test_ollama_async_client(live: Live) -> None:
    """The async client streams as well."""
    client = ollama.AsyncClient(live.url, headers={"Authorization": f"Bearer {live.key}"})
    stream = await client.chat("chat", QUESTION, options=GREEDY, stream=True)
    text = "".join([piece.message.content async for piece in stream])
    await client.close()
    assert "Paris" in text


# --- keys ---------------------------------------------------------------------------------------------


def test_without_a_key_no_client_gets_in(live: Live) -> None:
    """Each client library raises its own error with the gateway's words where no key, or a wrong one, is sent."""
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError) as hub:
        huggingface_hub.InferenceClient(base_url=live.url, api_key="wrong").text_generation(COUNT)
    assert hub.value.response.status_code == 401
    with pytest.raises(text_generation.errors.UnknownError, match="API key"):
        text_generation.Client(live.url).generate(COUNT)
    with ollama.Client(live.url) as client:
        for ask in (
            client.list,
            client.ps,
            lambda: client.show("chat"),
            lambda: client.generate("chat", "x"),
        ):
            with pytest.raises(ollama.ResponseError, match="API key") as refused:
                ask()
            assert refused.value.status_code == 401
