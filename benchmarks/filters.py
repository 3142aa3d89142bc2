"""What filters cost: MB/s of requests, and CPU microseconds per streamed event.

    python -m benchmarks.filters [--rounds 7]

One process, no network: the filters get bytes as the gateway would give them. Texts are random words of English
letters (seed 1), a chat request of 128 KiB, and a chat stream of 400 events with one word each. The rules take turns
within a round; the best of the rounds is shown, as CPU time of this process.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from inferry.core.filter_settings import Filter
from inferry.core.request import CHAT
from inferry.gateway.filters.filter_set import FilterSet

LETTERS = "etaoinshrdlucmfwypvbgk"
PATTERNS = [
    r"\bPRJ-\d{4,8}\b", r"(?i)\bconfidential\b", r"\b[A-Z]{2}\d{6}[A-Z]\b", r"\binternal\.[a-z]{1,20}\.corp\b",
    r"\b\d{3}-\d{2}-\d{4}\b", r"(?i:top secret)", r"#[0-9a-f]{6}\b", r"\bEMP\d{5}\b", r"\bticket/\d{1,9}\b",
    r"\bv\d{1,3}\.\d{1,3}\.\d{1,3}-rc\d{1,2}\b",
]  # fmt: skip


def words(count: int, seed: int = 1) -> list[str]:
    random_one = random.Random(seed)
    return ["".join(random_one.choices(LETTERS, k=random_one.randint(2, 9))) for _ in range(count)]


def terms(count: int) -> dict[str, Any]:
    """None of them is in the text; many begin as its words do."""
    return {"terms": [f"{word}zq" for word in words(count, seed=2)]}


RULES: dict[str, list[dict[str, Any]]] = {
    "no rule": [],
    "1 term": [terms(1)],
    "10 terms": [terms(10)],
    "1000 terms": [terms(1000)],
    "1000 terms, flag": [{**terms(1000), "action": "flag"}],
    "10 patterns": [{"patterns": PATTERNS}],
    "1000 terms, 10 patterns": [terms(1000), {"patterns": PATTERNS}],
    "email": [{"detect": ["email"]}],
    "card": [{"detect": ["card"]}],
    "secret": [{"detect": ["secret"]}],
    "all detectors": [{"detect": ["email", "phone", "card", "iban", "ip", "secret"]}],
}


def compiled(entries: list[dict[str, Any]]) -> FilterSet:
    named = ({"name": f"r{at}", "action": "mask", **entry} for at, entry in enumerate(entries))
    return FilterSet([Filter.model_validate(each) for each in named])


def cpu_s(work: Callable[[], object]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def relay(filters: FilterSet, events: Sequence[bytes]) -> None:
    stream = filters.stream(CHAT, "t", None)
    if stream is not None:
        for event in events:
            stream.feed(event)
        stream.finish()


def watched(filters: FilterSet, events: Sequence[bytes]) -> tuple[float, float, int]:
    """(share of events that did not go on as they came, mean characters held after an event, the most)."""
    stream = filters.stream(CHAT, "t", None)
    if stream is None:
        return 0.0, 0.0, 0
    seen = [(stream.feed(event) != event, stream.held_chars) for event in events]
    held = [chars for _, chars in seen]
    return sum(changed for changed, _ in seen) / len(seen), sum(held) / len(held), max(held)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    text = " ".join(words(30_000))[: 128 * 1024]
    body = msgspec.json.encode({"model": "chat", "messages": [{"role": "user", "content": text}]})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    events = [
        b"data: %b\n\n"
        % msgspec.json.encode(
            {**head, "choices": [{"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None}]}
        )
        for word in words(400)
    ]
    sets = {name: compiled(entries) for name, entries in RULES.items()}
    request_s: dict[str, float] = dict.fromkeys(sets, float("inf"))
    stream_s: dict[str, float] = dict.fromkeys(sets, float("inf"))

    for _ in range(rounds):
        for name, filters in sets.items():
            request_s[name] = min(request_s[name], cpu_s(partial(filters.input, CHAT, body, "t", None)))
            stream_s[name] = min(stream_s[name], cpu_s(partial(relay, filters, events)))

    print(f"Python {platform.python_version()}, {platform.machine()}, best of {rounds} rounds\n")
    print(
        "| Rules | request, MB/s | us per streamed event | events rewritten | characters held: mean, most, bound |"
    )
    print("|---|---|---|---|---|")
    for name, filters in sets.items():
        rate = "not looked at" if not RULES[name] else f"{len(body) / request_s[name] / 1e6:,.0f}"
        cost = "0 (no filter)" if not RULES[name] else f"{stream_s[name] / len(events) * 1e6:.1f}"
        share, mean, most = watched(filters, events)
        held = f"{mean:.1f}, {most}, {filters.hold_back_chars_max}"
        print(f"| {name} | {rate} | {cost} | {share:.0%} | {held} |")


if __name__ == "__main__":
    main()
