"""The requests under way, in a file that outlives the process: what kill -9 cuts off is billed for what it got.

    header     one page: magic
    states     8 bytes per slot: 0 is free; otherwise the length of what is written in the slot's body
    counts     8 bytes per slot: tokens relayed so far
    bodies     1024 bytes per slot: a Begun as JSON

A slot is written body first, then count, then state, and freed by its state alone: at every moment, all slots with a
state are whole. The file is as long as it can ever get from the start, and sparse; blocks are taken before a slot in
them is used, since a store into a mapped page for which the disk has no room would kill the process.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.ledger.locked_file import create_locked
from inferry.ledger.prices import Rates

log = structlog.get_logger()

SUFFIX = "inflight"
SLOTS_MAX = 65536
"""Requests of one process at the same time; its sockets end before."""
BODY_BYTES = 1024
STATUS_CRASHED = 500
CRASHED = "gateway_crashed"
_MAGIC = b"inferry inflight book 1\n"
_PAGE = 4096
_COUNTS_AT = _PAGE + 8 * SLOTS_MAX
_BODIES_AT = _COUNTS_AT + 8 * SLOTS_MAX
_FILE_BYTES = _BODIES_AT + BODY_BYTES * SLOTS_MAX
_SHORT_CHARS = (64, 16, 0)
"""To cut clients' texts to; JSON may need six bytes for one of their signs."""
_SLOTS_AT_FIRST = 1024


class Begun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What must be known of a request under way to account for it if this process dies.

    Fields as in Outcome. Their names are the file's format: add fields, never rename them.
    """

    id: str
    request_id: str
    route: str
    received_wall_s: float
    deployment: str | None = None
    model: str | None = None
    engine: str | None = None
    replica_id: str | None = None
    key_id: str | None = None
    tenant: str | None = None
    stream: bool = False
    attempts: int = 0
    prompt_tokens: int = 0
    """Estimate."""
    rates: Rates = Rates(0, 0, 0)


encode_begun = msgspec.json.Encoder().encode
"""Begun to the bytes that `InflightBook.begin` takes."""
_decode = msgspec.json.Decoder(Begun).decode


class InflightBook:
    """One process's book. For one thread.

    `counts[slot] += n` for each token relayed; nothing else may be stored there.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Makes the file; raises OSError where there is no room for it."""
        self._handle, self.path = create_locked(folder, name, SUFFIX)
        os.ftruncate(self._handle, _FILE_BYTES)
        _take_blocks(self._handle, 0, _BODIES_AT)
        self._map = mmap.mmap(self._handle, _FILE_BYTES)
        self._map[: len(_MAGIC)] = _MAGIC
        self._states = memoryview(self._map)[_PAGE:_COUNTS_AT].cast("Q")
        self.counts = memoryview(self._map)[_COUNTS_AT:_BODIES_AT].cast("Q")
        self._slots = 0
        self._spare = SLOTS_MAX - 1
        """Where requests count for which there is no slot. Never opened, never given out alone."""
        self._free: list[int] = []
        self._can_grow = True
        self.overflowed = 0
        """Requests that ran without a slot: too many at once, no room on the disk, or too much to say."""
        self._grow()

    @property
    def open_slots(self) -> int:
        return self._slots - len(self._free)

    def begin(self, begun: bytes) -> int:
        """Open a slot; its count is 0. `begun` is an encoded Begun; client's texts in a long one are cut."""
        size = len(begun)
        if size > BODY_BYTES:
            begun = _shortened(begun)
            size = len(begun)
        if size > BODY_BYTES or (not self._free and not self._grow()):
            self.overflowed += 1
            return self._spare
        slot = self._free.pop()
        at = _BODIES_AT + BODY_BYTES * slot
        self._map[at : at + size] = begun
        self.counts[slot] = 0
        self._states[slot] = size
        return slot

    def move(self, slot: int, begun: bytes) -> int:
        """The same request with other facts (another replica): opens a new slot, then frees the old one.

        In between, both are open under one id: `recover` counts it once.
        """
        new = self.begin(begun)
        if self._spare not in (new, slot):  # the spare slot's count is everybody's
            self.counts[new] = self.counts[slot]
        self.end(slot)
        return new

    def end(self, slot: int) -> None:
        """Free the slot, after the request's line is in the journal."""
        if self._states[slot]:
            self._states[slot] = 0
            self._free.append(slot)

    def close(self) -> None:
        """Let go of the file; slots that are still open will be recovered by the loader.

        Who begins a request later gets the spare slot, and counts in memory that nobody reads.
        """
        if self._map.closed:
            return
        self._states.release()
        self.counts.release()
        self._map.close()
        os.close(self._handle)
        self._states = self.counts = memoryview(bytearray(8 * SLOTS_MAX)).cast("Q")
        self._free.clear()
        self._can_grow = False

    def _grow(self) -> bool:
        slots = min(SLOTS_MAX - 1, max(_SLOTS_AT_FIRST, 2 * self._slots))
        if not self._can_grow or slots == self._slots:
            return False
        begin = _BODIES_AT + BODY_BYTES * self._slots
        try:
            _take_blocks(self._handle, begin, BODY_BYTES * (slots - self._slots))
        except OSError as error:
            self._can_grow = False  # asking again for each request would cost more than it could bring
            log.error("inflight_book_full", path=str(self.path), slots=self._slots, error=error.strerror)
            return False
        self._free.extend(range(slots - 1, self._slots - 1, -1))
        self._slots = slots
        return True


@dataclass(frozen=True, slots=True)
class Recovered:
    outcomes: list[Outcome]
    """One for each request that was under way."""
    unreadable: int
    """Slots in use that can't be read: the file was damaged."""


def recover(path: Path) -> Recovered:
    """What the requests in the book of a dead process had come to. Raises OSError.

    Tokens are those that were relayed, the prompt's are the estimate; where nothing was relayed, nothing is billed.
    How long the request had run is not known, and its duration 0. An id that is there twice is counted once, with the larger count.
    """
    found: dict[str, Outcome] = {}
    unreadable = 0
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return Recovered([], 0)  # its maker died before it was in use
        file.seek(_PAGE)
        states = memoryview(file.read(8 * SLOTS_MAX)).cast("Q")
        counts = memoryview(file.read(8 * SLOTS_MAX)).cast("Q")
        for slot, size in enumerate(states):
            if not size:
                continue
            file.seek(_BODIES_AT + BODY_BYTES * slot)
            try:
                outcome = _crashed(_decode(file.read(min(size, BODY_BYTES))), counts[slot])
            except (msgspec.MsgspecError, UnicodeError):
                unreadable += 1
                continue
            known = found.get(outcome.id)
            if known is None or (known.completion_tokens or 0) <= (outcome.completion_tokens or 0):
                found[outcome.id] = outcome
    return Recovered(list(found.values()), unreadable)


def _crashed(begun: Begun, tokens: int) -> Outcome:
    relayed = tokens > 0
    return Outcome(
        id=begun.id,
        request_id=begun.request_id,
        route=begun.route,
        ending=Ending.FAILED,
        status=STATUS_CRASHED,
        received_wall_s=begun.received_wall_s,
        duration_s=0.0,
        deployment=begun.deployment,
        model=begun.model,
        engine=begun.engine,
        replica_id=begun.replica_id,
        key_id=begun.key_id,
        tenant=begun.tenant,
        stream=begun.stream,
        attempts=begun.attempts,
        prompt_tokens=begun.prompt_tokens if relayed else None,
        completion_tokens=tokens if relayed else None,
        usage_from=UsageFrom.COUNTED if relayed else UsageFrom.NONE,
        cost_nano=begun.rates.cost_nano(begun.prompt_tokens, 0, tokens) if relayed else 0,
        error_code=CRASHED,
    )


def _shortened(begun: bytes) -> bytes:
    """With the client's own texts cut until it fits; everything else is short by itself."""
    record = _decode(begun)
    for chars in _SHORT_CHARS:
        record.request_id = record.request_id[:chars]
        if record.model is not None:
            record.model = record.model[:chars]
        begun = encode_begun(record)
        if len(begun) <= BODY_BYTES:
            break
    return begun


def _take_blocks(handle: int, offset: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, offset, size)
        return
    zeros = bytes(1024 * 1024)  # macOS: what was written has its blocks
    for at in range(offset, offset + size, len(zeros)):
        os.pwrite(handle, zeros[: offset + size - at], at)
