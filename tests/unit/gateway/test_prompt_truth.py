"""Checks in passing: in time for a warning, never in the way, never without bound."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.prompt_truth_settings import PromptTruth
from inferry.core.request import CHAT, EMBEDDINGS, Route
from inferry.gateway.prompt_counter import Counted
from inferry.gateway.prompt_reader import Skipped
from inferry.gateway.prompt_truth import PromptCheck, PromptChecks, PromptTruthSpec, rejection
from inferry.gateway.usage import read_usage
from inferry.policy.prompt_truth import FindingKind
from inferry.testing.manual_clock import ManualClock

from .gguf_file import byte_level_pairs, write_gguf

TRUNCATED = FindingKind.TRUNCATED


class FakeCounter:
    """A token for each byte of the body; may be held up, or break."""

    def __init__(self, *, held: bool = False, answer: Counted | Skipped | Exception | None = None) -> None:
        self.go = threading.Event()
        self.answer = answer
        self.threads: set[str] = set()
        if not held:
            self.go.set()

    def count(self, route: Route, body: bytes) -> Counted | Skipped:
        self.go.wait(10)
        self.threads.add(threading.current_thread().name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Counted(len(body), begins_with_bos=True)


@asynccontextmanager
async def running(
    counter: FakeCounter, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[PromptChecks]:
    spec = PromptTruthSpec(PromptTruth(tokenizer="here", **settings), "here")
    checks = PromptChecks(
        {"chat": spec},
        loop=asyncio.get_running_loop(),
        clock=clock or ManualClock(),
        load=lambda path, now_text: counter,
    )
    try:
        yield checks
    finally:
        counter.go.set()
        await checks.close()


def started(checks: PromptChecks, tokens: int) -> PromptCheck:
    check = checks.start("chat", CHAT, b"x" * tokens)
    assert check is not None
    return check


async def counted(check: PromptCheck) -> PromptCheck:
    done = asyncio.Event()
    check.when_counted(done.set, 10.0)
    await done.wait()
    assert check.is_counted
    return check


async def test_an_engine_that_cuts_is_caught_with_the_first_request() -> None:
    """Its answer says 300 prompt tokens where 500 were sent: a finding before the answer goes out, with the header
    and the error that the file may ask for."""
    async with running(FakeCounter(), action="reject") as checks:
        check = await counted(started(checks, 500))
        assert not check.may_exceed
        answer = json.dumps({"choices": [{}], "usage": {"prompt_tokens": 300, "completion_tokens": 1}})
        usage = read_usage([answer.encode()])
        assert usage is not None
        assert usage.prompt_tokens is not None
        finding = check.verdict(usage.prompt_tokens)
        assert finding is not None
        assert finding.warning() == "prompt-truncated; engine=300 expected=500"
        assert check.rejects
        error = rejection(finding)
        assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
        assert checks.counts == {("chat", "truncated"): 1}


async def test_the_same_with_a_real_tokenizer(tmp_path: Path) -> None:
    """Vocabulary and template out of a GGUF file, loaded in the worker: a chat of 602 tokens that the engine says
    were 512 is found out with the first answer, and one that came through whole is not."""
    pytest.importorskip("tokenizers", reason="needs the 'prompt-truth' extra")
    pytest.importorskip("jinja2", reason="needs the 'prompt-truth' extra")
    pairs = byte_level_pairs(["\u0120the"], ["<s>", "<u>"])
    template = "<s>{% for m in messages %}<u>{{ m.content }}{% endfor %}"
    path = write_gguf(tmp_path / "m.gguf", pairs | {"tokenizer.chat_template": template})
    body = json.dumps({"messages": [{"role": "user", "content": " the" * 600}]}).encode()
    checks = PromptChecks(
        {"chat": PromptTruthSpec(PromptTruth(), str(path))},
        loop=asyncio.get_running_loop(),
        clock=ManualClock(),
    )
    for engine_tokens, kind in ((512, TRUNCATED), (602, FindingKind.OK)):
        check = checks.start("chat", CHAT, body)
        assert check is not None
        finding = (await counted(check)).verdict(engine_tokens)
        assert finding is not None
        assert (finding.kind, finding.expected_tokens) == (kind, 602)
    await checks.close()


async def test_after_a_cut_longer_prompts_are_known_beforehand() -> None:
    """The next long prompt is foreseen to be cut; shorter ones are not held up; ten minutes later it is tried anew."""
    clock = ManualClock()
    async with running(FakeCounter(), clock) as checks:
        check = await counted(started(checks, 500))
        assert check.foreseen() is None
        check.verdict(300)
        assert not started(checks, 300).may_exceed
        check = started(checks, 301)
        assert check.may_exceed
        assert check.foreseen() is None  # not counted yet
        finding = (await counted(check)).foreseen()
        assert finding is not None
        assert (finding.kind, finding.engine_tokens, finding.expected_tokens) == (TRUNCATED, 300, 301)
        assert not check.rejects
        clock.advance(600.0)
        assert not started(checks, 301).may_exceed


async def test_long_prompts_are_checked_whatever_the_sample() -> None:
    """Where an engine cuts, every prompt that may be too long is counted; of the others, the share asked for."""
    async with running(FakeCounter(), sample=0.25) as checks:
        taken = [checks.start("chat", CHAT, b"x" * 500) for _ in range(8)]
        assert [check is not None for check in taken] == [False, False, False, True] * 2
        check = taken[-1]
        assert check is not None
        (await counted(check)).verdict(300)
        long, short = (b"x" * 400, b"x" * 200)
        assert all(checks.start("chat", CHAT, long) for _ in range(4))
        assert sum(checks.start("chat", CHAT, short) is not None for _ in range(4)) == 1


async def test_a_sample_of_none_counts_nothing() -> None:
    """`sample: 0` and deployments without the section cost nothing, nor do routes without prompts."""
    async with running(FakeCounter(), sample=0) as checks:
        assert checks.start("chat", CHAT, b"x") is None
        assert checks.start("other", CHAT, b"x") is None
    async with running(FakeCounter()) as checks:
        assert checks.start("chat", EMBEDDINGS, b"x") is None


async def test_a_count_that_comes_late_is_for_the_metric() -> None:
    """When the answer is there first, it goes out; the finding is counted when the worker is through."""
    counter = FakeCounter(held=True)
    async with running(counter) as checks:
        check = started(checks, 500)
        assert check.verdict(500) is None
        assert checks.counts == {}
        counter.go.set()
        await counted(check)
        assert checks.counts == {("chat", "ok"): 1}
        assert counter.threads == {"prompt-truth_0"}


async def test_waiting_has_a_bound() -> None:
    """Who waits for a count goes on without it after the bound, and only once."""
    counter = FakeCounter(held=True)
    async with running(counter) as checks:
        check = started(checks, 500)
        calls: list[bool] = []
        went_on = asyncio.Event()

        def go_on() -> None:
            calls.append(check.is_counted)
            went_on.set()

        check.when_counted(go_on, 0.001)
        await went_on.wait()
        assert check.foreseen() is None
        counter.go.set()
        await counted(check)
        assert calls == [False]
        check.when_counted(go_on)
        assert calls == [False, True]


@pytest.mark.parametrize(("size", "room"), [(10, 64), (3 * 1024 * 1024, 5), (5 * 1024 * 1024, 0)])
async def test_the_queue_has_a_bound(size: int, room: int) -> None:
    """So many requests wait, and so many bytes, and no huge one; the others are not checked, and counted."""
    counter = FakeCounter(held=True)
    async with running(counter) as checks:
        taken = [checks.start("chat", CHAT, b"x" * size) for _ in range(70)]
        assert [check is not None for check in taken] == [True] * room + [False] * (70 - room)
        assert checks.counts == {("chat", "dropped"): 70 - room}
        counter.go.set()
        for check in taken[:room]:
            assert check is not None
            await counted(check)
        assert room == 0 or checks.start("chat", CHAT, b"x" * size) is not None


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (Skipped("a part that is no text"), "skipped"),
        (ConfigError("gone"), "failed"),
        (KeyError("bug"), "failed"),
    ],
)
async def test_what_can_not_be_counted_is_no_finding(answer: Skipped | Exception, finding: str) -> None:
    """A prompt that can't be counted, and even a fault of ours, leave the request alone."""
    async with running(FakeCounter(answer=answer)) as checks:
        check = await counted(started(checks, 500))
        assert check.verdict(300) is None
        assert check.foreseen() is None
        assert checks.counts == {("chat", finding): 1}


@pytest.mark.parametrize("error", [ConfigError("no tokenizer here"), RuntimeError("a bug")])
async def test_without_a_tokenizer_requests_go_their_way(error: Exception) -> None:
    """A tokenizer that can't be loaded is tried once, and every request is counted as failed to check."""
    loads: list[Path] = []

    def load(path: Path, now_text: Callable[[str], str]) -> FakeCounter:
        loads.append(path)
        raise error

    spec = PromptTruthSpec(PromptTruth(), "model.gguf")
    checks = PromptChecks({"chat": spec}, loop=asyncio.get_running_loop(), clock=ManualClock(), load=load)
    for _ in range(3):
        assert (await counted(started(checks, 5))).verdict(5) is None
    await checks.close()
    assert checks.counts == {("chat", "failed"): 3}
    assert loads == [Path("model.gguf")]


async def test_a_reload_keeps_what_was_learned() -> None:
    """A deployment whose settings stay keeps its limit; one that changed starts anew; one that went is not checked."""
    async with running(FakeCounter()) as checks:
        (await counted(started(checks, 500))).verdict(300)
        same = PromptTruthSpec(PromptTruth(tokenizer="here"), "here")
        checks.configure({"chat": same})
        assert started(checks, 500).may_exceed
        checks.configure({"chat": PromptTruthSpec(PromptTruth(tokenizer="there"), "there")})
        assert not started(checks, 500).may_exceed
        checks.configure({})
        assert checks.start("chat", CHAT, b"x") is None


async def test_the_other_findings_are_the_operator_s() -> None:
    """A doubled BOS or another template is 422 with a code of its own, and says which it is."""
    async with running(FakeCounter()) as checks:
        for engine_tokens, words in ((37, "second BOS"), (30, "another")):
            finding = (await counted(started(checks, 36))).verdict(engine_tokens)
            assert finding is not None
            error = rejection(finding)
            assert (error.status, error.code) == (422, "prompt_mismatch")
            assert words in error.message
        assert checks.counts == {("chat", "doubled_bos"): 1, ("chat", "wrong_template"): 1}


@pytest.mark.parametrize(
    ("engine_tokens", "kind"),
    [(500, FindingKind.OK), (450, FindingKind.OK), (501, FindingKind.OK), (449, TRUNCATED), (551, FindingKind.WRONG_TEMPLATE)],
)  # fmt: skip
async def test_prompts_with_tools_may_differ_by_a_tenth(engine_tokens: int, kind: FindingKind) -> None:
    """Engines write tools anew before they render them: only a clear difference is a finding."""
    async with running(FakeCounter(answer=Counted(500, begins_with_bos=True, exact=False))) as checks:
        finding = (await counted(started(checks, 1))).verdict(engine_tokens)
        assert finding is not None
        assert finding.kind is kind


async def test_at_the_end_nothing_is_left() -> None:
    """Closing ends the thread, also with counts that were waiting, and starts no more."""
    counter = FakeCounter(held=True)
    async with running(counter) as checks:
        waiting = [started(checks, 5) for _ in range(3)]
        counter.go.set()
        await checks.close()
        assert checks.start("chat", CHAT, b"x") is None
        assert all(check.verdict(5) is None or check.is_counted for check in waiting)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prompt-truth")]
