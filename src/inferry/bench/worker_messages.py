"""What the runner and its workers say to each other: MessagePack with its length before it, over pipes.

runner -> worker, its standard input    Job, when the worker has begun; Start; Stop, when a person stops the run
runner -> worker, a pipe of its own     lists of Ask, as fast as the worker takes them; closed after the last
worker -> runner, its standard output   Ready; Counts once a second; Records, many times; Done
"""

from __future__ import annotations

import asyncio
import struct

import msgspec
from msgspec import Struct

from inferry.bench.plan import RunPlan
from inferry.bench.records import ClientAudit, RequestRecord
from inferry.bench.tokens import Wording

_LENGTH = struct.Struct("<I")


class Job(Struct, frozen=True, tag="job"):
    plan: RunPlan
    process: int
    """From 0, of `plan.processes`."""
    address: tuple[str, int]
    """Of the target, resolved."""
    wording: Wording
    nonce: str


class Start(Struct, frozen=True, tag="start"):
    at_s: float
    """On the monotonic clock, which all processes of a machine share."""


class Stop(Struct, frozen=True, tag="stop"):
    """Send nothing more, leave what is under way, hand in what there is."""


class Ready(Struct, frozen=True, tag="ready"):
    """Connections are open, and the first requests are made."""


class Counts(Struct, frozen=True, tag="counts"):
    sent: int
    ended: int
    failed: int
    under_way: int
    unsent: int
    first_piece_ms: tuple[float, ...]
    """Since the last counts."""
    reading: bool = False


class Records(Struct, frozen=True, tag="records"):
    records: tuple[RequestRecord, ...]


class Done(Struct, frozen=True, tag="done"):
    audit: ClientAudit


FromRunner = Job | Start | Stop
FromWorker = Ready | Counts | Records | Done

_encoder = msgspec.msgpack.Encoder()
from_runner = msgspec.msgpack.Decoder(FromRunner)
from_worker = msgspec.msgpack.Decoder(FromWorker)


def frame(message: FromRunner | FromWorker) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message, still encoded. None: the other side has closed, or died in the middle of one."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
