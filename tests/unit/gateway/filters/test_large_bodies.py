"""Large requests are looked at in threads, with the same verdicts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from inferry.core.filter_settings import Filter
from inferry.core.request import CHAT
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.large_bodies import THREADS, FilterThreads, Looked, look_at
from inferry.gateway.filters.term_matcher import TermMatcher
from inferry.gateway.filters.verdict import Blocked, Masked, Passed


@pytest.fixture
async def threads() -> AsyncIterator[FilterThreads]:
    threads = FilterThreads(asyncio.get_running_loop())
    yield threads
    threads.close()


def chat(text: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


def test_what_others_are_asked_is_the_masked_text() -> None:
    """A classifier sees the request as it would go on; after a block, nobody is asked."""
    judge = Filter.model_validate({"name": "judge", "classifier": {"url": "http://h:1/"}})
    mask = Filter(name="mask", action="mask", terms=["Nightjar"])
    looked = look_at(FilterSet([mask, judge]), CHAT, chat("the Nightjar"), "t", None)
    assert isinstance(looked.verdict, Masked)
    [check] = looked.checks
    assert b"Nightjar" not in check.request("")
    assert b"the [removed]" in check.request("")
    block = Filter(name="block", terms=["Nightjar"])
    looked = look_at(FilterSet([block, judge]), CHAT, chat("the Nightjar"), "t", None)
    assert isinstance(looked.verdict, Blocked)
    assert looked.checks == ()


async def test_the_loop_goes_on_meanwhile(threads: FilterThreads) -> None:
    """The verdict comes in the loop's thread, after others had their turn."""
    may_end = threading.Event()
    found: asyncio.Future[tuple[Looked, int]] = asyncio.get_running_loop().create_future()

    def look() -> Looked:
        assert may_end.wait(10)
        return Looked(Passed())

    threads.run(look, lambda looked: found.set_result((looked, threading.get_ident())))
    await asyncio.sleep(0)
    assert not found.done()
    may_end.set()
    assert await found == (Looked(Passed()), threading.get_ident())


async def test_what_could_not_be_looked_at_does_not_go_on(threads: FilterThreads) -> None:
    """A fault in a filter refuses the request, and tells the client nothing of it."""
    found: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()

    def look() -> Looked:
        raise RuntimeError("secret detail")

    threads.run(look, found.set_result)
    verdict = (await found).verdict
    assert isinstance(verdict, Blocked)
    assert "secret" not in verdict.error.message


async def test_nobody_is_told_after_the_end(threads: FilterThreads) -> None:
    """A request that is over hears no verdict; one that still waited for a thread is not looked at."""
    may_end = threading.Event()
    told: list[Looked] = []
    looked_at: list[int] = []

    def look(number: int) -> Looked:
        looked_at.append(number)
        assert may_end.wait(10)
        return Looked(Passed())

    futures = [threads.run(lambda n=n: look(n), told.append) for n in range(THREADS + 1)]  # type: ignore[misc]
    async with asyncio.timeout(10):
        while len(looked_at) < THREADS:
            await asyncio.sleep(0.001)
    for future in futures:
        future.cancel()
    await asyncio.sleep(0)  # asyncio tells the executor in its next round
    may_end.set()
    last: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
    threads.run(lambda: Looked(Passed()), last.set_result)
    await last
    assert told == []
    assert sorted(looked_at) == list(range(THREADS))


@pytest.mark.parametrize("ignore_case", [True, False])
def test_terms_are_found_wherever_the_text_is_long(
    ignore_case: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long texts are searched in pieces: where these end changes nothing, from any start."""
    matcher = TermMatcher(["ab", "abc", "bcd", "dd"], ignore_case, whole_words=False)
    text = "xabcdabcddxxabxcdabcdab" * 3
    expected = {start: matcher.scan(text, start, True) for start in range(len(text))}
    for piece_chars in (1, 2, 3, 7, 64):
        monkeypatch.setattr("inferry.gateway.filters.term_matcher._PIECE_CHARS", piece_chars)
        assert {start: matcher.scan(text, start, True) for start in range(len(text))} == expected
