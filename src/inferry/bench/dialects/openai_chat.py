"""OpenAI's chat completions, the API that nearly every engine has."""

from __future__ import annotations

from inferry.bench.dialects.form import Fields, generation_fields, prompt_messages, usage_options
from inferry.bench.dialects.heard import Heard
from inferry.bench.dialects.openai_form import hear_choices
from inferry.bench.plan import Target
from inferry.bench.records import Ask


class Chat:
    headers: tuple[tuple[str, str], ...] = ()
    names_an_end = True
    counts_tokens = True

    def streams(self, target: Target) -> bool:
        return target.stream

    def path(self, target: Target) -> str:
        return "/chat/completions"

    def fields(self, target: Target, ask: Ask) -> Fields:
        """The length goes by one name only: TensorRT-LLM refuses two, and each of the two is unknown somewhere."""
        messages = prompt_messages(ask, "chat")
        return {
            **generation_fields(target, ask, target.length_field),
            **usage_options(target),
            "messages": messages,
        }

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        hear_choices(data, at_s, heard)

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        hear_choices(body, at_s, heard, whole=True)
