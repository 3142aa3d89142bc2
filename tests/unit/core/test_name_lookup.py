from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from inferry.core import name_lookup
from inferry.core.name_lookup import NameLookup


class NameService:
    """Answers as it is told, name by name; those in `hangs` wait for `release`."""

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}
        self.hangs: set[str] = set()
        self.fails: OSError | None = None
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host in self.hangs:
            self.release.wait(30)
        if self.fails is not None:
            raise self.fails
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known[host]


@pytest.fixture
def service() -> NameService:
    return NameService()


def lookup(service: NameService) -> NameLookup:
    return NameLookup(asyncio.get_running_loop(), service)


async def test_an_address_is_asked_of_nobody(service: NameService) -> None:
    """IPv4, IPv6, and one with a zone."""
    names = lookup(service)
    for address in ("10.0.0.1", "::1", "fe80::1%eth0"):
        assert await names.addresses(address) == (address,)
    assert service.asked == []


async def test_many_who_ask_at_once_share_one_lookup(service: NameService) -> None:
    """And those who come soon after have its answer, in the name service's order."""
    service.known["a"] = ["10.0.0.2", "10.0.0.1"]
    names = lookup(service)
    found = await asyncio.gather(*(names.addresses("a") for _ in range(20)))
    assert set(found) == {("10.0.0.2", "10.0.0.1")}
    assert await names.addresses("a") == ("10.0.0.2", "10.0.0.1")
    assert service.asked == ["a"]


async def test_a_name_that_hangs_holds_up_no_other(service: NameService) -> None:
    """Ten dead names hang, each with one lookup however often it is asked for; a good name has its answer meanwhile."""
    service.known["good"] = ["10.0.0.1"]
    dead = [f"dead-{index}" for index in range(10)]
    service.hangs.update(dead)
    names = lookup(service)
    waiting = [asyncio.ensure_future(names.addresses(name)) for name in dead * 3]
    async with asyncio.timeout(10):
        assert await names.addresses("good") == ("10.0.0.1",)
    assert not any(each.done() for each in waiting)
    assert sorted(service.asked) == sorted([*dead, "good"])
    service.release.set()
    async with asyncio.timeout(10):
        for each in waiting:
            with pytest.raises(socket.gaierror):
                await each


async def test_an_old_answer_serves_while_a_new_one_is_late(
    service: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lookup under way is waited for shortly, by the first who asks; then its answer counts."""
    monkeypatch.setattr(name_lookup, "FRESH_S", 0.0)
    service.known["a"] = ["10.0.0.1"]
    names = lookup(service)
    await names.addresses("a")
    service.known["a"] = ["10.0.0.2"]
    assert await names.addresses("a") == ("10.0.0.2",)
    service.hangs.add("a")
    service.known["a"] = ["10.0.0.3"]
    asked = len(service.asked)
    async with asyncio.timeout(10):
        for _ in range(3):
            assert await names.addresses("a") == ("10.0.0.2",)
    assert len(service.asked) == asked + 1
    service.release.set()
    async with asyncio.timeout(10):
        while await names.addresses("a") != ("10.0.0.3",):
            await asyncio.sleep(0.01)


async def test_a_name_that_is_gone_is_forgotten_and_one_that_nobody_can_be_asked_for_is_not(
    service: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Temporary failure` says nothing about the name; `not known` does. Either is the error of a name never seen."""
    monkeypatch.setattr(name_lookup, "FRESH_S", 0.0)
    service.known["a"] = ["10.0.0.1"]
    names = lookup(service)
    await names.addresses("a")
    service.fails = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert await names.addresses("a") == ("10.0.0.1",)
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        await names.addresses("b")
    service.fails = None
    service.known.clear()
    with pytest.raises(socket.gaierror, match="not known"):
        await names.addresses("a")


async def test_who_gives_up_takes_the_answer_from_nobody(service: NameService) -> None:
    """One limit runs out; the other who waits for the same name has it when it comes."""
    service.known["a"] = ["10.0.0.1"]
    service.hangs.add("a")
    names = lookup(service)
    patient = asyncio.ensure_future(names.addresses("a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await names.addresses("a")
    service.release.set()
    async with asyncio.timeout(10):
        assert await patient == ("10.0.0.1",)


async def test_the_systems_own_lookup() -> None:
    """A name of this machine has a loopback address; one that can't be a name is an error and no fault of ours."""
    names = NameLookup(asyncio.get_running_loop())
    assert {"127.0.0.1", "::1"} & set(await names.addresses("localhost"))
    with pytest.raises(OSError, match=r"not a host's name|not known|No address"):
        await names.addresses("a" * 70 + "." + "b" * 300)
