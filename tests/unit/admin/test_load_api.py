"""Loading models over the control API, by callers that stay and callers that leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from inferry.admin.load_api import make_load_router

from .control_stand import Control, running_control
from .test_control import STATUS


class Swap:
    """Loads `quick` at once and others never; writes down what becomes of a call."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.says: list[str] = []

    async def load(self, name: str) -> None:
        self.begun.set()
        try:
            if name != "quick":
                await asyncio.Event().wait()
            self.says.append("loaded")
        except asyncio.CancelledError:
            self.says.append("cancelled")
            raise
        finally:
            self.ended.set()

    async def unload(self, name: str) -> str:
        return "It stays drained."


@contextmanager
def client(control: Control, timeout_s: float) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=control.record.socket)
    with httpx.Client(transport=transport, base_url="http://control", timeout=timeout_s) as made:
        yield made


def test_a_caller_that_leaves_wants_it_no_more() -> None:
    """The call behind it is cancelled; one that stays gets its answer."""
    swap = Swap()
    with running_control(STATUS, lifecycle=make_load_router(swap.load, swap.unload)) as control:
        with client(control, 0.5) as impatient, pytest.raises(httpx.ReadTimeout):
            impatient.post("/deployments/big/load")
        assert swap.begun.is_set()
        assert swap.ended.wait(5)
        with client(control, 10.0) as patient:
            assert patient.post("/deployments/quick/load").json()["message"] == "'quick' is loaded."
    assert swap.says == ["cancelled", "loaded"]


def test_unloading_says_what_loads_it_again() -> None:
    """In the words of whoever did it: a drained one is not loaded by the next request."""
    swap = Swap()
    with (
        running_control(STATUS, lifecycle=make_load_router(swap.load, swap.unload)) as control,
        client(control, 10.0) as asking,
    ):
        answer = asking.post("/deployments/big/unload").json()
    assert answer["message"] == "'big' is unloaded. It stays drained."
