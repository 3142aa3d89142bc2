"""What came of a worker's requests, kept until the busy time is over: in memory, and beyond a bound in a file.

Written to a file that has no name any more: whatever happens to the process, nothing of it stays behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import BinaryIO, cast

import msgspec

from inferry.bench.records import Ask, Raw
from inferry.core.errors import BenchClientFailed

MEMORY_BYTES_MAX = 256 << 20
"""Per process: 100-token answers of OpenAI's form are about 30 KB each."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Ask, Raw])


class RawStore:
    """Exchanges in the order in which they ended."""

    def __init__(self, memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
        self._memory_bytes_max = memory_bytes_max
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._file: BinaryIO | None = None
        self._lengths: list[int] = []
        """Of those in the file."""

    def __len__(self) -> int:
        return len(self._kept) + len(self._lengths)

    def keep(self, ask: Ask, raw: Raw) -> None:
        """Raises BenchClientFailed when the bound is passed and the disk is full."""
        encoded = _encoder.encode((ask, raw))
        if self._kept_bytes + len(encoded) <= self._memory_bytes_max:
            self._kept.append(encoded)
            self._kept_bytes += len(encoded)
            return
        try:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="inferry-bench-"))  # noqa: SIM115
            self._file.write(encoded)
        except OSError as error:
            where = tempfile.gettempdir()
            raise BenchClientFailed(
                f"The answers need more room than {where} has ({error.strerror}): ask for a shorter run, or name a "
                "folder with more room in the environment variable TMPDIR."
            ) from error
        self._lengths.append(len(encoded))

    def take(self) -> Iterator[tuple[Ask, Raw]]:
        """All that was kept, once: each is let go of as soon as it has been given."""
        self._kept.reverse()
        while self._kept:
            yield _decoder.decode(self._kept.pop())
        if self._file is not None:
            self._file.seek(0)
            for length in self._lengths:
                yield _decoder.decode(self._file.read(length))
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lengths.clear()
        self._kept.clear()
