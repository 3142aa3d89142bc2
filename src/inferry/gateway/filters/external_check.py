"""Questions to a classifier or a guard model, as data; and what the answers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from inferry.core.filter_settings import Filter, split_classifier_url
from inferry.core.replica import Endpoint
from inferry.gateway.filters.verdict import NO_FLAGS, Passed, Verdict, blocked

What = Literal["request", "answer"]
_encode = msgspec.json.encode


class _Result(msgspec.Struct):
    flagged: bool = False
    category_scores: dict[str, float] = {}


class _Moderation(msgspec.Struct):
    results: list[_Result]


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


_moderation = msgspec.json.Decoder(_Moderation).decode
_completion = msgspec.json.Decoder(_Completion).decode


@dataclass(frozen=True, slots=True)
class Check:
    """One question. `endpoint` is the classifier's, or None: ask the deployment `guard` on its chat route."""

    settings: Filter
    what: What
    texts: Sequence[str]

    @property
    def rule(self) -> str:
        return self.settings.name

    @property
    def guard(self) -> str | None:
        return self.settings.guard

    @property
    def endpoint(self) -> Endpoint | None:
        """Its base path is the whole path to ask; its headers may hold a key."""
        classifier = self.settings.classifier
        if classifier is None:
            return None
        tls, host, port, path = split_classifier_url(classifier.url)
        headers: tuple[tuple[str, str], ...] = ()
        if classifier.api_key is not None:
            headers = (("authorization", f"Bearer {classifier.api_key.get_secret_value()}"),)
        return Endpoint(host, port, tls, path, headers)

    @property
    def timeout_s(self) -> float:
        classifier = self.settings.classifier
        return self.settings.guard_timeout_s if classifier is None else classifier.timeout_s

    def request(self, model: str = "") -> bytes:
        """The body to send. `model`: the guard's name at its engine."""
        classifier = self.settings.classifier
        if classifier is not None:
            # https://platform.openai.com/docs/api-reference/moderations/create
            body: dict[str, Any] = {"input": list(self.texts)}
            return _encode(body if classifier.model is None else {"model": classifier.model, **body})
        role = "user" if self.what == "request" else "assistant"
        messages = [{"role": role, "content": "\n".join(self.texts)}]
        if role == "assistant":
            # Guard models' templates want a question first (Llama Guard, ShieldGemma, Qwen Guard).
            messages.insert(0, {"role": "user", "content": "(not shown)"})
        return _encode({"model": model, "messages": messages, "max_tokens": 16, "temperature": 0})

    def verdict(self, status: int, answer: bytes) -> Verdict:
        """What the answer says; one that can't be read counts as `failed`."""
        if not 200 <= status < 300:
            return self.failed()
        try:
            if self.settings.classifier is not None:
                found = self._flagged(_moderation(answer).results)
            else:
                word = _completion(answer).choices[0].message.content.strip().lower()
                if not word.startswith(("safe", "unsafe")):
                    return self.failed()
                found = word.startswith("unsafe")
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError):
            return self.failed()
        return self._found() if found else Passed()

    def failed(self) -> Verdict:
        """No answer in time, or none that can be read: as the file says."""
        classifier = self.settings.classifier
        on_error = self.settings.guard_on_error if classifier is None else classifier.on_error
        if on_error == "pass" or self.settings.action == "flag":
            return Passed()
        return blocked(self.rule, self.what, "it could not be checked")

    def _flagged(self, results: Sequence[_Result]) -> bool:
        classifier = self.settings.classifier
        assert classifier is not None
        if not results:
            raise LookupError("no results")
        threshold = classifier.threshold
        if threshold is None:
            return any(each.flagged for each in results)
        return any(score >= threshold for each in results for score in each.category_scores.values())

    def _found(self) -> Verdict:
        if self.settings.action == "flag":
            return Passed(frozenset({self.rule}))
        return blocked(self.rule, self.what)


class CheckWindow:
    """A streamed answer's text, cut into windows that are asked about one after the other.

    Each question holds the window before it too, so that nothing hides on the border.
    """

    def __init__(self, settings: Sequence[Filter]) -> None:
        self._settings = settings
        self._chars = min(
            each.guard_window_chars if each.classifier is None else each.classifier.window_chars
            for each in settings
        )
        self._before = ""
        self._text = ""
        self.closing = False
        """No more text comes: what there is, is asked about."""

    @property
    def waiting(self) -> bool:
        """Whether there is text that was not asked about."""
        return bool(self._text)

    def add(self, text: str) -> None:
        self._text += text

    def next_checks(self) -> Sequence[Check]:
        """Questions about the next window, if it is full or the last one."""
        if not self._text.strip() and self.closing:
            self._text = ""
        if not self._text or (len(self._text) < self._chars and not self.closing):
            return ()
        question = self._before + self._text
        self._before, self._text = self._text[-self._chars :], ""
        return [Check(each, "answer", (question,)) for each in self._settings]


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """The first that blocks, or all their flags."""
    flags = NO_FLAGS.union(*(each.flags for each in verdicts))
    stop = next((each for each in verdicts if not isinstance(each, Passed)), None)
    return Passed(flags) if stop is None else stop
