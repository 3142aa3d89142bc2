"""An engine that is full is alive: BUSY never looks like a failure, and a hung one never like BUSY."""

from __future__ import annotations

from inferry.engines.adapter import ProbeReading, Verdict
from inferry.fleet.probe import Unreachable

from .fakes import GONE, FakeProber, until
from .test_fleet import SLOW, house_of, managed, running

BUSY = ProbeReading(Verdict.BUSY, "has as many requests as it takes")
HUNG = Unreachable("gives no answer within 0.1 s", silent=True)


async def test_a_busy_engine_gets_ready() -> None:
    """Others may have filled it before the first probe: it serves."""
    prober = FakeProber()
    prober.default = BUSY
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        assert house.state("chat-0") == "ready"


async def test_a_busy_engine_stays_ready_for_ever() -> None:
    """However many probes say so, and it is counted meanwhile."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        prober.default = BUSY
        prober.tokens_generated = 77
        probes = prober.probes
        await until(lambda: prober.probes > probes + 6)
        assert house.state("chat-0") == "ready"
        assert house.view("chat-0").tokens_generated == 77
        assert len(house.runtime.handles) == 1


async def test_a_failed_request_at_a_busy_engine_does_not_take_it_out() -> None:
    """It refused one request for being full; the probe that follows says so, and it goes on."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed(health=SLOW))
    async with running(house):
        await house.fleet.wait_settled()
        prober.default, prober.tokens_generated = BUSY, 5
        house.fleet.report_failure("chat-0", "answered 503")
        await until(lambda: house.view("chat-0").tokens_generated == 5)  # read after a good probe is judged
        assert house.state("chat-0") == "ready"


async def test_busy_brings_a_suspect_back() -> None:
    """It answers again: that it is full is the best sign that there is."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        prober.default = GONE
        await until(lambda: house.state("chat-0") == "suspect")
        prober.default = BUSY
        await until(lambda: house.state("chat-0") == "ready")


async def test_a_hung_engine_is_suspect_though_its_process_lives() -> None:
    """No answer in time is no BUSY; the process is kept for now, since it may come back."""
    prober = FakeProber()
    house = house_of(prober=prober, chat=managed())
    async with running(house):
        await house.fleet.wait_settled()
        prober.default = HUNG
        await until(lambda: house.state("chat-0") == "suspect")
        assert "no answer" in house.view("chat-0").message
        assert len(house.runtime.handles) == 1
