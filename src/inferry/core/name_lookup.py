"""Addresses of host names, remembered: a name service that hangs on one name holds up nobody who needs another.

The loop's own lookups share a few threads (4 with uvloop). Names of a container that is gone can keep each of them for
tens of seconds, and then replicas that are well can't be reached either. Here each name has one lookup at a time, in a
thread of its own, and what was known goes on to be used while a new answer is late.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FRESH_S = 1.0
"""So old an answer is used unseen, a refusal too. Short: containers and pods get new addresses at any moment, and a
lookup takes milliseconds where the name service is well."""
LATE_S = 0.25
"""So long a new answer is waited for before an old one is used instead."""

Look = Callable[[str], Sequence[str]]


def look_up(host: str) -> list[str]:
    """The host's addresses in the system's order; blocks. Raises OSError (`socket.gaierror`)."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_address(host: str) -> bool:
    """It needs no lookup."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...]
    refusal: OSError | None
    at_s: float


class NameLookup:
    """Of one event loop. No thread of it keeps a process from ending."""

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Look | None = None) -> None:
        self._loop = loop
        self._look = look_up if look is None else look
        self._known: dict[str, _Known] = {}
        self._under_way: dict[str, tuple[asyncio.Future[None], float]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """At least one. Raises OSError where the name is not known, or nobody can be asked and nothing is remembered.

        Waits as long as the first lookup of a name takes: set a limit of your own.
        """
        if is_address(host):
            return (host,)
        known = self._known.get(host)
        if known is None or self._loop.time() - known.at_s > FRESH_S:
            answer, since_s = self._under_way.get(host) or self._begin(host)
            if known is None or not known.addresses:
                await asyncio.shield(answer)
            elif (patience_s := since_s + LATE_S - self._loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        await asyncio.shield(answer)
            known = self._known[host]
        if known.refusal is not None:
            raise known.refusal
        return known.addresses

    def _begin(self, host: str) -> tuple[asyncio.Future[None], float]:
        begun = self._under_way[host] = (self._loop.create_future(), self._loop.time())
        threading.Thread(target=self._ask, args=(host,), name=f"lookup-{host[:40]}", daemon=True).start()
        return begun

    def _ask(self, host: str) -> None:
        """In a thread."""
        addresses: tuple[str, ...] = ()
        refusal: OSError | None = None
        try:
            addresses = tuple(self._look(host))
        except OSError as error:
            refusal = error
        except UnicodeError:  # of a name that no name service could have
            refusal = OSError(f"'{host}' is not a host's name")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._note, host, addresses, refusal)

    def _note(self, host: str, addresses: tuple[str, ...], refusal: OSError | None) -> None:
        known = self._known.get(host)
        if refusal is not None and known is not None and known.addresses and _says_nothing(refusal):
            known.at_s = self._loop.time()
        else:
            self._known[host] = _Known(addresses, refusal, self._loop.time())
        answer, _ = self._under_way.pop(host)
        if not answer.done():
            answer.set_result(None)


def _says_nothing(refusal: OSError) -> bool:
    """No name service answered: that a name is gone is another answer."""
    return isinstance(refusal, socket.gaierror) and refusal.errno == socket.EAI_AGAIN
