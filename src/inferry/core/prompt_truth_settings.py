"""The `prompt_truth:` section of a deployment: whether engines got the prompt that the model's template gives."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from inferry.core.section import Section


class PromptTruth(Section):
    """Compare the engine's count of prompt tokens with the model's own template and tokenizer."""

    tokenizer: str | None = Field(
        None,
        max_length=4096,
        description="The model's folder (tokenizer.json, tokenizer_config.json, chat_template.jinja), its folder in "
        "the Hugging Face cache, or a GGUF file. Left out: the model's own GGUF file, with llamacpp.",
    )
    action: Literal["warn", "reject"] = Field(
        "warn",
        description="warn: the header x-inferry-warning and a metric; reject: 400 or 422 in place of an answer to "
        "another prompt, where nothing of it has been sent.",
    )
    tolerance_tokens: int = Field(
        0,
        ge=0,
        le=100_000,
        description="So many tokens more or fewer are no finding (a doubled BOS still is).",
    )
    sample: float = Field(
        1.0, ge=0, le=1, description="Share of requests to check; each costs a thread some 0.1 to 10 ms."
    )

    def resolved_against(self, folder: Path) -> PromptTruth:
        """The same, with a relative `tokenizer` made absolute below `folder`."""
        if self.tokenizer is None:
            return self
        return self.model_copy(update={"tokenizer": str(folder / Path(self.tokenizer).expanduser())})
