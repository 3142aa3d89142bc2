"""How many tokens a prompt has by the model's own template and tokenizer, from its folder or its GGUF file.

Needs the `prompt-truth` extra (tokenizers, jinja2).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferry.core.errors import ConfigError
from inferry.core.request import Route
from inferry.gateway.prompt_reader import ChatPrompt, Skipped, read_prompt
from inferry.models.gguf_header import read_gguf_header

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from inferry.gateway.prompt_template import PromptTemplate

_MISSING = (
    "'prompt_truth' needs the packages tokenizers and jinja2: pip install 'inferry[prompt-truth]', "
    "or leave 'prompt_truth' out"
)
_CONFIG_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of a prompt, and whether its text begins with the model's BOS token."""

    tokens: int
    begins_with_bos: bool
    exact: bool = True
    """False with tools: engines write their JSON anew, with other spaces and empty fields, before they render it."""


class PromptCounter:
    """Counts for one model. Blocks for 0.1 ms to many: never on an event loop."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: PromptTemplate | None,
        *,
        bos: str,
        adds_bos: bool,
        adds_eos: bool,
    ) -> None:
        """`adds_bos`, `adds_eos`: the engine puts them around a text; BOS not before a text that has it."""
        self._tokenizer = tokenizer
        self._template = template
        self._bos = bos
        self._adds_bos = adds_bos
        self._adds_eos = adds_eos

    def count(self, route: Route, body: bytes) -> Counted | Skipped:
        """The tokens of the prompt in a request's body, or why they can't be known from outside."""
        from inferry.gateway.prompt_template import TemplateRefuses  # an extra

        prompt = read_prompt(route, body)
        if isinstance(prompt, Skipped):
            return prompt
        if not isinstance(prompt, ChatPrompt):
            texts = [self._counted(text, special=True).tokens for text in prompt.texts]
            return Counted(sum(texts) + prompt.ids, False)
        if self._template is None:
            return Skipped("the model has no chat template")
        if prompt.tools and not self._template.reads_tools:
            return Skipped("a template without tools")
        try:
            text = self._template.render(
                prompt.messages,
                prompt.tools,
                prompt.extra,
                add_generation_prompt=prompt.add_generation_prompt,
            )
        except TemplateRefuses:
            return Skipped("the template refuses this chat")
        counted = self._counted(text, special=False)
        return replace(counted, exact=False) if prompt.has_tools else counted

    def _counted(self, text: str, *, special: bool) -> Counted:
        """`special`: with what the tokenizer itself puts around a text; a template writes that itself."""
        # As a batch: the library then lets other threads run, and computes no offsets.
        encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0]
        begins_with_bos = bool(self._bos) and text.startswith(self._bos)
        return Counted(
            len(encoding) + (self._adds_bos and not begins_with_bos) + self._adds_eos, begins_with_bos
        )


def load_counter(source: Path, now_text: Callable[[str], str]) -> PromptCounter:
    """The counter of the model at `source`: a GGUF file, a tokenizer.json, or a folder with one (or the folder of a
    model in the Hugging Face cache). `now_text`: the time in a strftime layout, for templates that tell the date.

    Takes up to seconds. Raises ConfigError when something is missing or not supported.
    """
    # The library's own threads gain nothing on one text, and it warns when a process with them forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import jinja2  # noqa: F401 - told apart from errors in our own modules
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise ConfigError(_MISSING) from error
    if source.suffix == ".gguf":
        return _from_gguf(source, now_text)
    return _from_folder(source, now_text)


def _from_gguf(path: Path, now_text: Callable[[str], str]) -> PromptCounter:
    from inferry.gateway.gguf_tokenizer import gguf_vocabulary
    from inferry.gateway.prompt_template import PromptTemplate

    model = gguf_vocabulary(read_gguf_header(path), path)
    template = (
        PromptTemplate(model.chat_template, model.special_tokens, now_text) if model.chat_template else None
    )
    return PromptCounter(
        model.tokenizer,
        template,
        bos=model.special_tokens["bos_token"],
        adds_bos=model.adds_bos,
        adds_eos=model.adds_eos,
    )


def _from_folder(source: Path, now_text: Callable[[str], str]) -> PromptCounter:
    from tokenizers import Tokenizer

    from inferry.gateway.prompt_template import PromptTemplate

    folder = _snapshot(source if source.is_dir() else source.parent)
    file = folder / "tokenizer.json" if source.is_dir() else source
    if not file.is_file():
        raise ConfigError(
            f"{file} does not exist: 'prompt_truth.tokenizer' must name the model's folder, its tokenizer.json, "
            "or a GGUF file"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise ConfigError(f"{file} is no tokenizer.json that can be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _json_file(folder / "tokenizer_config.json")
    special = {
        name: text
        for name in ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
        if (text := _token_text(config.get(name)))
    }
    source_text = _chat_template(folder, config)
    bos = special.get("bos_token", "")
    return PromptCounter(
        tokenizer,
        PromptTemplate(source_text, special, now_text) if source_text else None,
        bos=bos,
        adds_bos=False,
        adds_eos=False,
    )


def _snapshot(folder: Path) -> Path:
    """In the Hugging Face cache, the files are below `snapshots/COMMIT`, and `refs/main` names the commit."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if commit and (snapshots / commit).is_dir():
        return snapshots / commit
    found = sorted(snapshots.iterdir())
    if len(found) != 1:
        raise ConfigError(
            f"{snapshots} holds {len(found)} versions: name one of them in 'prompt_truth.tokenizer'"
        )
    return found[0]


def _json_file(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_CONFIG_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Where transformers looks for it, in its order."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / 'chat_template.jinja'} can't be read: {error}") from error
    found = _json_file(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((each.get("template") for each in found if each.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _token_text(value: Any) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
