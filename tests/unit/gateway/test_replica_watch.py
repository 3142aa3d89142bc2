"""What one gateway process sees of its replicas: who is set aside, who warms up, what is told of their progress."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.health_settings import Breaker, Health, Outliers
from inferry.core.outcome import Ending, Outcome
from inferry.core.replica import ReplicaProgress, ReplicaState
from inferry.core.request import CHAT
from inferry.gateway.account import Account
from inferry.gateway.gateway import Gateway
from inferry.policy.routing import Slot
from inferry.testing.manual_clock import ManualClock

from .stand import served, view

HEALTH = Health(
    slow_start_s=10,
    breaker=Breaker(failures_max=3, open_s=2),
    outliers=Outliers(requests_min=5, window_s=600, aside_s=10),
)
READY = ReplicaState.READY


@dataclass
class House:
    gateway: Gateway
    clock: ManualClock
    reports: list[str]
    progress: list[Mapping[str, ReplicaProgress]]

    def pass_s(self, seconds: float) -> None:
        """Time goes by in the steps of the gateway's own ticks."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.gateway.watch.tick(self.clock.now_s())

    def slot(self, name: str) -> Slot:
        return self.gateway.deployments["chat"].balancer.slots[name]

    def ends(self, name: str, status: int = 200, ttft_s: float = 0.1, code: str | None = None) -> None:
        """A request at this replica ends: with the engine's whole answer, or by `code`."""
        account = Account(CHAT, None)  # type: ignore[arg-type] # how it arrived plays no part
        account.replica_id, account.status, account.whole = name, status, code is None
        account.relaying, account.sent_s = code is None, self.clock.now_s()
        account.first_byte_s = account.sent_s + ttft_s
        ending = Ending.COMPLETED if status < 400 and code is None else Ending.FAILED
        self.gateway.watch.on_outcome(account, outcome(ending, status, code))

    def chosen(self, count: int) -> set[str]:
        balancer = self.gateway.deployments["chat"].balancer
        names = set()
        for _ in range(count):
            slot = balancer.choose()
            assert isinstance(slot, Slot)
            names.add(slot.id)
            balancer.release(slot)
        return names


def outcome(ending: Ending, status: int, code: str | None) -> Outcome:
    return Outcome(
        id="r", request_id="r", route=CHAT.path, ending=ending, status=status, received_wall_s=0.0, duration_s=1.0,
        stream=True, error_code=code,
    )  # fmt: skip


@pytest.fixture
def house() -> Iterator[House]:
    loop = asyncio.new_event_loop()
    clock = ManualClock()
    reports: list[str] = []
    progress: list[Mapping[str, ReplicaProgress]] = []
    gateway = Gateway(
        GatewaySettings(),
        [replace(served("chat"), health=HEALTH)],
        clock=clock,
        loop=loop,
        on_replica_failure=lambda name, reason: reports.append(f"{name}: {reason}"),
        on_progress=progress.append,
    )
    for index in range(2):
        gateway.apply(view(index, READY))
    yield House(gateway, clock, reports, progress)
    loop.close()


def test_a_failing_replica_is_set_aside_and_its_failures_are_told(house: House) -> None:
    """After three failed requests nothing goes there; the control process hears of each of them."""
    for _ in range(3):
        house.gateway.on_replica_failure("chat-0", "cut")
    assert house.reports == ["chat-0: cut"] * 3
    assert house.chosen(6) == {"chat-1"}
    assert house.gateway.watch.barred() == {"chat-0": "3 requests failed in a row: cut"}
    assert house.gateway.snapshot().barred == {"chat-0": 1}


def test_being_full_does_not_count(house: House) -> None:
    """ "Full" and "loading" (503) are neither failures nor successes."""
    for _ in range(5):
        house.ends("chat-0", 503)
    assert house.chosen(6) == {"chat-0", "chat-1"}
    assert house.gateway.watch.failures()["chat-0"] == 0


def test_one_trial_brings_it_back(house: House) -> None:
    """After open_s it gets one request; when that goes well, its full part."""
    for _ in range(3):
        house.gateway.on_replica_failure("chat-0", "cut")
    house.pass_s(1.5)
    assert house.chosen(6) == {"chat-1"}
    house.pass_s(1.0)
    assert house.chosen(6) == {"chat-0", "chat-1"}
    assert house.chosen(6) == {"chat-1"}
    house.ends("chat-0")
    assert house.chosen(6) == {"chat-0", "chat-1"}
    house.pass_s(5)
    assert house.chosen(6) == {"chat-0", "chat-1"}
    assert house.gateway.watch.barred() == {}


def test_a_late_success_while_a_trial_is_due_lets_it_in_for_good(house: House) -> None:
    """A request from before ends well just when the trial may begin: it is well, and stays in."""
    for _ in range(3):
        house.gateway.on_replica_failure("chat-0", "cut")
    house.pass_s(2.5)
    house.ends("chat-0")
    for _ in range(3):
        assert house.chosen(4) == {"chat-0", "chat-1"}


def test_a_failed_trial_sets_it_aside_for_longer(house: House) -> None:
    """Twice as long."""
    for _ in range(3):
        house.gateway.on_replica_failure("chat-0", "cut")
    house.pass_s(2.5)
    assert "chat-0" in house.chosen(2)
    house.gateway.on_replica_failure("chat-0", "cut again")
    house.pass_s(3)
    assert house.chosen(6) == {"chat-1"}
    house.pass_s(1.6)
    assert house.chosen(6) == {"chat-0", "chat-1"}


def test_an_engine_that_starts_anew_begins_with_a_clean_sheet_and_slowly(house: House) -> None:
    """What the last process failed is not its successor's; that one warms up, from a tenth to all of its weight."""
    for _ in range(3):
        house.gateway.on_replica_failure("chat-0", "cut")
    house.gateway.apply(view(0, ReplicaState.FAILED, port=None))
    house.gateway.apply(view(0, READY, port=10))
    assert not house.slot("chat-0").barred
    assert house.slot("chat-0").weight == pytest.approx(0.1)
    house.pass_s(5.5)
    assert 0.5 < house.slot("chat-0").weight < 0.7
    house.pass_s(5)
    assert house.slot("chat-0").weight == 1.0


def test_one_that_comes_back_from_suspect_is_warm(house: House) -> None:
    """Only a new engine starts slowly; and one that was ready before this process was, is warm as well."""
    assert house.slot("chat-0").weight == 1.0
    house.gateway.apply(view(0, ReplicaState.SUSPECT))
    house.gateway.apply(view(0, READY))
    assert house.slot("chat-0").weight == 1.0


def test_an_outlier_is_set_aside_for_a_growing_while(house: House) -> None:
    """A replica that is far slower than its peer on the same load: 10 s, and 20 s the next time."""
    for wait_s in (10, 20):
        for _ in range(6):
            house.ends("chat-0", ttft_s=9.0)
            house.ends("chat-1", ttft_s=0.1)
        house.pass_s(1)
        assert house.chosen(6) == {"chat-1"}
        assert "first tokens take 9.00 s" in house.gateway.watch.barred()["chat-0"]
        house.pass_s(wait_s - 2)
        assert house.chosen(6) == {"chat-1"}
        house.pass_s(2)
        assert house.chosen(6) == {"chat-0", "chat-1"}


def test_nothing_under_way_is_nothing_told(house: House) -> None:
    """An idle process sends no reports."""
    house.pass_s(5)
    assert house.progress == []


def test_a_replica_that_is_gone_is_forgotten(house: House) -> None:
    """And what is still said of it changes nothing."""
    house.gateway.gone("chat-0")
    house.gateway.on_replica_failure("chat-0", "cut")
    house.ends("chat-0")
    house.pass_s(1)
    assert house.gateway.watch.barred() == {}
