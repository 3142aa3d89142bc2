"""Arrivals as this platform has seen them: outcomes of its own journals or its store, so that yesterday comes again.

What a journal does not know is taken like this:
- who was sent away for want of room, or failed, had no answer: it is taken to be as long as the last one of its tenant
  that was answered;
- where an answer broke off, its prompt is as long as it was, and only the answer's length is taken like that;
- what clients did wrong (status 4xx but for 429) would be wrong again, and is left out;
- what no engine answers with text (embeddings, rerank, tokens counted) is not simulated, and left out;
- of prompts, only how much of each the engine had in its cache: that much is taken to be the same for all requests of
  a tenant, as a system prompt is. Shared parts of conversations look more alike than they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.load_traces import TraceError
from inferry.core.outcome import Ending, Outcome
from inferry.core.request import ROUTES
from inferry.ledger.journal import SUFFIX, read_piece
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_store import is_store, stored_in_file

NO_ROOM = 429
WITHOUT_ANSWER = frozenset(path for path, route in ROUTES.items() if not route.streams)
_PROMPT_TOKENS, _ANSWER_TOKENS = 512, 128
"""Of requests before the first that was answered."""


@dataclass(slots=True)
class Replayed:
    """Requests of a journal, in order; and what was left out."""

    arrivals: list[Arrival] = field(default_factory=list)
    begin_wall_s: float = 0.0
    """When the first one came."""
    corrupt: int = 0
    """Lines that are no outcomes: a crash may leave one."""
    wrong: int = 0
    """Requests that clients had to correct."""
    other: int = 0
    """Requests for something else than an answer in text: embeddings, rerank, tokens counted."""
    guessed: int = 0
    """Without an answer, so of a guessed length."""


def read_journals(
    folder: Path,
    *,
    deployment: str | None = None,
    begin_wall_s: float = 0.0,
    end_wall_s: float = math.inf,
    speed: float = 1.0,
    block_tokens: int = 16,
) -> Replayed:
    """All journals of a folder, or one file: a journal, or a store of SQLite's; of one deployment, or of all.

    In memory as a whole, some 200 bytes a request: a journal is in the order of ends, and of several processes.
    Raises TraceError, OSError; of a store, LedgerError and ConfigError.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob(f"*.{SUFFIX}"))
    if not files:
        raise TraceError(
            f"{folder} has no journals (*.{SUFFIX}): what the store has already is in them no more; give the store's file"
            if folder.exists()
            else f"{folder} is not there"
        )
    replayed = Replayed()
    found = replay(
        (
            stored_in_file(folder, begin_wall_s, end_wall_s)
            if folder.is_file() and is_store(folder)
            else _outcomes(files, replayed)
        ),
        deployment=deployment,
        begin_wall_s=begin_wall_s,
        end_wall_s=end_wall_s,
        speed=speed,
        block_tokens=block_tokens,
        into=replayed,
    )
    if not found.arrivals:
        whose = f" of deployment '{deployment}'" if deployment else ""
        raise TraceError(f"{folder}: no request{whose} is in it")
    return found


def replay(
    outcomes: Iterable[Outcome],
    *,
    deployment: str | None = None,
    begin_wall_s: float = 0.0,
    end_wall_s: float = math.inf,
    speed: float = 1.0,
    block_tokens: int = 16,
    into: Replayed | None = None,
) -> Replayed:
    """Outcomes in any order as arrivals in the order in which they came, the first one at 0."""
    replayed = Replayed() if into is None else into
    chosen = []
    for each in outcomes:
        if each.deployment is None or (deployment is not None and each.deployment != deployment):
            continue
        if not begin_wall_s <= each.received_wall_s < end_wall_s:
            continue
        if 400 <= each.status < 500 and each.status not in (NO_ROOM, 499):
            replayed.wrong += 1
            continue
        if each.route in WITHOUT_ANSWER:
            replayed.other += 1
            continue
        chosen.append(each)
    chosen.sort(key=lambda each: (each.received_wall_s, each.id))
    if chosen:
        replayed.begin_wall_s = chosen[0].received_wall_s
    replayed.arrivals = list(_arrivals(chosen, replayed, speed, block_tokens))
    return replayed


def _arrivals(
    outcomes: Iterable[Outcome], replayed: Replayed, speed: float, block_tokens: int
) -> Iterator[Arrival]:
    usual: dict[str, tuple[int, int]] = {}
    numbers: dict[str, int] = {}
    for each in outcomes:
        tenant = each.tenant or ""
        prompt_tokens, answer_tokens = each.prompt_tokens, each.completion_tokens
        if prompt_tokens and answer_tokens:
            sizes = prompt_tokens, answer_tokens
            if each.ending is Ending.COMPLETED:
                usual[tenant] = usual[""] = sizes
        else:
            replayed.guessed += 1
            prompt, answer = usual.get(tenant) or usual.get("") or (_PROMPT_TOKENS, _ANSWER_TOKENS)
            sizes = prompt_tokens or prompt, answer_tokens or answer
        number = numbers.setdefault(f"{each.deployment} {tenant}", len(numbers))
        shared = min(each.cached_tokens or 0, sizes[0]) // block_tokens
        yield Arrival(
            (each.received_wall_s - replayed.begin_wall_s) / speed,
            *sizes,
            tuple(range(number << 32, (number << 32) + shared)),
            tenant,
            each.deployment or "",
        )


def _outcomes(files: Iterable[Path], replayed: Replayed) -> Iterator[Outcome]:
    seen: set[str] = set()
    for path in files:
        offset = -1
        at = 0
        while at != offset:
            offset = at
            piece = read_piece(path, offset, finished=True)
            at = piece.next_offset
            replayed.corrupt += len(piece.corrupt)
            for _, outcome in piece.entries:
                if outcome.id not in seen:  # a line may be there twice after a crash
                    seen.add(outcome.id)
                    yield outcome
