"""OpenAI's completions: a prompt without a template, as text or, for most engines, as token ids."""

from __future__ import annotations

from inferry.bench.dialects.form import Fields, generation_fields, prompt_text_or_ids, usage_options
from inferry.bench.dialects.heard import Heard
from inferry.bench.dialects.openai_form import hear_choices
from inferry.bench.plan import Target
from inferry.bench.records import Ask


class Completions:
    headers: tuple[tuple[str, str], ...] = ()
    names_an_end = True
    counts_tokens = True

    def streams(self, target: Target) -> bool:
        return target.stream

    def path(self, target: Target) -> str:
        return "/completions"

    def fields(self, target: Target, ask: Ask) -> Fields:
        prompt = prompt_text_or_ids(ask, "completions")
        return {**generation_fields(target, ask, "max_tokens"), **usage_options(target), "prompt": prompt}

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        hear_choices(data, at_s, heard)

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        hear_choices(body, at_s, heard, whole=True)
