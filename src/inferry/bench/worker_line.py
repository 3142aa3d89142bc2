"""The runner's end of one worker process: starts it, talks to it, hears how it died, and ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import suppress

from inferry.bench.worker_messages import FromRunner, FromWorker, frame, from_worker, read_frame
from inferry.core.errors import BenchClientFailed

ENDS_WITHIN_S = 5.0
SAID_BYTES_MAX = 4096
"""Of a worker's standard error, the end."""


class WorkerLine:
    """One worker. `open` makes it, `close` ends it, whatever it is doing."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.number = number
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._said = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, number: int) -> WorkerLine:
        ours, its = socket.socketpair()
        try:
            # In a session of its own: Ctrl-C is for the runner, which then tells the workers.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "inferry.bench.worker"),
                stdin=its.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise BenchClientFailed(f"No process could be started to send the load: {error}") from None
        finally:
            its.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(number, process, reader, writer)

    def say(self, message: FromRunner) -> None:
        """To a worker that is gone, nothing is said; `hear` tells."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def hear(self) -> FromWorker:
        """The next message. Raises BenchClientFailed: the process has ended before its work was done."""
        encoded = await read_frame(self._reader)
        if encoded is not None:
            message: FromWorker = from_worker.decode(encoded)
            return message
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN_S):
                await self._process.wait()
                await self._listening
        raise BenchClientFailed(f"Load worker {self.number} {self._how_it_ended()}")

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._listening

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        """Keeps the end of what it says to standard error: why it gave up."""
        assert self._process.stderr is not None
        while said := await self._process.stderr.read(SAID_BYTES_MAX):
            self._said = (self._said + said)[-SAID_BYTES_MAX:]

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        words = lines[-1] if lines else "it left no word why"
        if status is not None and status < 0:
            return f"was ended by {signal.Signals(-status).name} before its work was done: {words}"
        code = "it has not ended yet" if status is None else f"exit code {status}"
        return f"gave up before its work was done ({code}): {words}"
