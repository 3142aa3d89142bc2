"""Tokens of prompts, by tokenizers from GGUF files and from folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.request import CHAT, COMPLETIONS
from inferry.gateway.prompt_counter import Counted, PromptCounter, load_counter
from inferry.gateway.prompt_reader import Skipped

from .gguf_file import U32, byte_level_pairs, write_gguf

pytest.importorskip("tokenizers", reason="needs the 'prompt-truth' extra")
pytest.importorskip("jinja2", reason="needs the 'prompt-truth' extra")

TEMPLATE = "{{ bos_token }}{% for m in messages %}<u>{{ m.content }}{{ eos_token }}{% endfor %}"
NO_BOS = "{% for m in messages %}<u>{{ m.content }}{% endfor %}"
CONTROL = ["<s>", "</s>", "<u>"]


def gguf(folder: Path, template: str | None = TEMPLATE, pre: str = "gpt-2", **ggml: object) -> Path:
    pairs = byte_level_pairs(["\u0120the", "the", "abc", "111"], CONTROL, pre)
    tokens = pairs["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    pairs["tokenizer.ggml.bos_token_id"] = U32(tokens.index("<s>"))
    pairs["tokenizer.ggml.eos_token_id"] = U32(tokens.index("</s>"))
    if template is not None:
        pairs["tokenizer.chat_template"] = template
    return write_gguf(
        folder / "m.gguf", pairs | {f"tokenizer.ggml.{key}": each for key, each in ggml.items()}
    )


def loaded(source: Path) -> PromptCounter:
    return load_counter(source, lambda layout: layout)


def chat(counter: PromptCounter, text: str, **more: Any) -> Counted | Skipped:
    return counter.count(CHAT, json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode())


def text(counter: PromptCounter, prompt: object) -> Counted | Skipped:
    return counter.count(COMPLETIONS, json.dumps({"prompt": prompt}).encode())


# --- GGUF ---------------------------------------------------------------------------------------------


def test_a_vocabulary_from_a_gguf_file(tmp_path: Path) -> None:
    """Merges, control tokens in the text, and the template's own BOS are counted."""
    counter = loaded(gguf(tmp_path))
    assert chat(counter, "the the abc") == Counted(2 + 4 + 1, begins_with_bos=True)  # "the"," the"," ","abc"
    assert chat(counter, "the</s>the") == Counted(2 + 3 + 1, begins_with_bos=True)
    assert text(counter, "the the") == Counted(2, begins_with_bos=False)
    assert text(counter, [5, 6, 7]) == Counted(3, begins_with_bos=False)


@pytest.mark.parametrize(("template", "tokens", "begins"), [(TEMPLATE, 4, True), (NO_BOS, 3, False)])
def test_bos_stands_before_a_prompt_once(tmp_path: Path, template: str, tokens: int, begins: bool) -> None:
    """An engine that adds BOS does not add it to a text that has it, and neither do we."""
    counter = loaded(gguf(tmp_path, template, add_bos_token=True))
    assert chat(counter, "the") == Counted(tokens, begins_with_bos=begins)
    assert text(counter, "the") == Counted(2, begins_with_bos=False)


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [("gpt-2", 1), ("smollm", 3), ("qwen2", 3), ("llama-bpe", 1), ("tekken", 3), ("dbrx", 1)],
)
def test_digits_are_split_as_the_file_says(tmp_path: Path, pre: str, tokens: int) -> None:
    """The way of splitting is the file's: one by one, by three, or not at all."""
    assert text(loaded(gguf(tmp_path, pre=pre, add_bos_token=False)), "111") == Counted(tokens, False)


def test_some_vocabularies_add_bos_by_their_way(tmp_path: Path) -> None:
    """Llama 3's adds BOS where the file does not speak of it."""
    assert text(loaded(gguf(tmp_path, pre="llama-bpe")), "the") == Counted(2, False)


@pytest.mark.parametrize(
    ("ggml", "words"),
    [
        ({"model": "llama"}, "vocabulary of type 'llama'"),
        ({"model": "t5"}, "vocabulary of type 't5'"),
        ({"pre": "brand-new"}, "splits its text by 'brand-new'"),
        ({"pre": "default"}, "splits its text by 'default'"),
        ({"merges": ["the unknown"]}, "damaged vocabulary"),
        ({"merges": ["the"]}, "damaged vocabulary"),
    ],
)
def test_other_vocabularies_are_refused_by_name(tmp_path: Path, ggml: dict[str, Any], words: str) -> None:
    """No guess: what is not supported is named, with the way out."""
    with pytest.raises(ConfigError, match=words) as error:
        loaded(gguf(tmp_path, **ggml))
    assert "prompt_truth" in error.value.message


def test_chats_that_a_model_can_not_render_are_skipped(tmp_path: Path) -> None:
    """No template, a template without tools, or one that refuses: nothing is said about the prompt."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert chat(loaded(gguf(tmp_path, None)), "a") == Skipped("the model has no chat template")
    assert chat(loaded(gguf(tmp_path)), "a", tools=tools) == Skipped("a template without tools")
    refusing = loaded(gguf(tmp_path, "{{ raise_exception('no') }}"))
    assert chat(refusing, "a") == Skipped("the template refuses this chat")


def test_counts_with_tools_are_not_exact(tmp_path: Path) -> None:
    """Tools that the template shows are counted, as one way to write them."""
    counter = loaded(gguf(tmp_path, "{{ tools[0].function.name }}"))
    tools = [{"type": "function", "function": {"name": "the"}}]
    assert chat(counter, "a", tools=tools) == Counted(1, begins_with_bos=False, exact=False)


def test_the_sample_model(sample_model: Path) -> None:
    """What the engine itself counts, for two prompts of known length (measured with llama-server)."""
    counter = loaded(sample_model)
    assert chat(counter, "Where is the Eiffel Tower?") == Counted(37, begins_with_bos=True)
    assert text(counter, "Once upon a time") == Counted(4, begins_with_bos=False)


# --- folders ------------------------------------------------------------------------------------------


def model_folder(folder: Path, **config: Any) -> Path:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "<u>": 3, "the": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens([AddedToken(each) for each in CONTROL])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(3)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | config))
    return folder


@pytest.mark.parametrize(
    "config", [{"chat_template": TEMPLATE}, {"chat_template": [{"name": "default", "template": TEMPLATE}]}]
)
def test_a_model_s_folder(tmp_path: Path, config: dict[str, Any]) -> None:
    """Template and special tokens from tokenizer_config.json; the tokenizer's own BOS only before plain texts, and
    its own truncation never."""
    folder = model_folder(tmp_path, **config)
    for source in (folder, folder / "tokenizer.json"):
        counter = loaded(source)
        assert chat(counter, "the the the the") == Counted(7, begins_with_bos=True)
        assert text(counter, "the the") == Counted(3, begins_with_bos=False)


def test_a_template_in_a_file_of_its_own(tmp_path: Path) -> None:
    """chat_template.jinja goes before tokenizer_config.json, as in transformers."""
    folder = model_folder(tmp_path, chat_template="{{ 1 // 0 }}")
    (folder / "chat_template.jinja").write_text(NO_BOS)
    assert chat(loaded(folder), "the") == Counted(2, begins_with_bos=False)


def test_a_folder_in_the_hugging_face_cache(tmp_path: Path) -> None:
    """The commit that refs/main names is taken, or the only one there is."""
    model_folder(tmp_path / "snapshots" / "aaa", chat_template=TEMPLATE)
    assert chat(loaded(tmp_path), "the") == Counted(4, begins_with_bos=True)
    model_folder(tmp_path / "snapshots" / "bbb", chat_template=NO_BOS)
    with pytest.raises(ConfigError, match="holds 2 versions"):
        loaded(tmp_path)
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs" / "main").write_text("bbb\n")
    assert chat(loaded(tmp_path), "the") == Counted(2, begins_with_bos=False)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """No tokenizer, a broken one, a broken configuration: each error names the file."""
    with pytest.raises(ConfigError, match=r"tokenizer\.json does not exist"):
        loaded(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no tokenizer\.json that can be read"):
        loaded(tmp_path)
    model_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json can't be read"):
        loaded(tmp_path)


@pytest.mark.parametrize("package", ["tokenizers", "jinja2"])
def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """A missing package is told with what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"inferry\[prompt-truth\]"):
        loaded(tmp_path / "m.gguf")
