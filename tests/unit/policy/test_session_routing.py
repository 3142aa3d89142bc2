"""Sessions stay at their replica, no replica gets more than its bounded share, and few move when replicas change."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, NoReplica, RouteFacts, Routing, Slot
from inferry.policy.routing.hash_ring import HashRing
from inferry.policy.routing.session import FREE

S = ReplicaState


def balancer(replicas: int, bound: float = 1.25) -> Balancer:
    made = Balancer(Routing(policy="session", load_bound=bound))
    for number in range(replicas):
        made.put(f"r{number}", S.READY)
    return made


def choose(made: Balancer, session: str | None, exclude: tuple[str, ...] = ()) -> Slot:
    slot = made.choose(exclude, RouteFacts(session=session))
    assert isinstance(slot, Slot)
    return slot


def homes(made: Balancer, sessions: int) -> dict[str, str]:
    """Where each session's requests go while nothing else runs."""
    found = {}
    for number in range(sessions):
        slot = choose(made, f"s{number}")
        found[f"s{number}"] = slot.id
        made.release(slot)
    return found


def test_a_session_stays() -> None:
    """All its requests go to one replica, one after the other or a few at a time; so in each gateway process."""
    made, other = balancer(5), balancer(5)
    home = choose(made, "s").id
    assert {choose(made, "s").id for _ in range(FREE - 1)} == {home}
    assert choose(other, "s").id == home


def test_only_the_sessions_of_a_lost_replica_move_and_come_back() -> None:
    """All others stay where they are; when it is ready again, it has its sessions again."""
    made = balancer(5)
    before = homes(made, 300)
    made.put("r2", S.FAILED)
    moved = {session for session, home in homes(made, 300).items() if home != before[session]}
    assert moved == {session for session, home in before.items() if home == "r2"}
    made.put("r2", S.READY)
    assert homes(made, 300) == before


def test_a_new_replica_takes_its_part_and_no_more() -> None:
    """About a sixth of the sessions go to the sixth replica; none moves between the others."""
    made = balancer(5)
    before = homes(made, 600)
    made.put("r5", S.READY)
    after = homes(made, 600)
    moved = [after[session] for session in after if after[session] != before[session]]
    assert set(moved) == {"r5"}
    assert 40 <= len(moved) <= 180


@settings(max_examples=40)
@given(
    st.integers(1, 6),
    st.floats(1.05, 3),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=150),
)
def test_no_replica_takes_more_than_its_bounded_share(
    replicas: int, bound: float, steps: list[tuple[int, bool]]
) -> None:
    """Whatever sessions there are, a chosen replica holds at most ceil(bound * all / replicas), or FREE."""
    made = balancer(replicas, bound)
    held: list[Slot] = []
    for session, ends in steps:
        if ends and held:
            made.release(held.pop(0))
            continue
        slot = choose(made, f"s{session}")
        held.append(slot)
        assert slot.in_flight <= max(FREE, math.ceil(bound * len(held) / replicas))


def test_a_hot_session_spreads_in_the_order_of_the_ring() -> None:
    """Beyond its replica's share, it goes to the next one, the same for everybody, and not to all of them."""
    made = balancer(4)
    for number in range(20):  # others' requests, evenly spread
        made.slots[f"r{number % 4}"].in_flight += 1
    made.put("r0", S.READY, 1.0)
    made.put("r9", S.FAILED)  # so that it counts anew
    used = Counter(choose(made, "hot").id for _ in range(4))
    assert len(used) == 2


@pytest.mark.parametrize("bound", [1.1, 2.0])
def test_weights_bound_the_shares(bound: float) -> None:
    """A replica of weight 3 may hold three times what one of weight 1 may."""
    made = balancer(2, bound)
    made.put("r0", S.READY, 3.0)
    for number in range(200):
        choose(made, f"s{number}")
    assert made.slots["r0"].in_flight <= math.ceil(bound * 200 * 3 / 4)
    assert made.slots["r1"].in_flight <= math.ceil(bound * 200 / 4)


def test_requests_without_a_session_are_spread_by_load() -> None:
    """They go to whoever has least."""
    made = balancer(3)
    assert Counter(choose(made, None).id for _ in range(30)) == {"r0": 10, "r1": 10, "r2": 10}


def test_a_retry_goes_to_the_next_on_the_ring() -> None:
    """Excluded replicas are skipped; where all are, there is none."""
    made = balancer(3)
    first = choose(made, "s").id
    second = choose(made, "s", (first,)).id
    third = choose(made, "s", (first, second)).id
    assert {first, second, third} == {"r0", "r1", "r2"}
    assert isinstance(made.choose({"r0", "r1", "r2"}, RouteFacts(session="s")), NoReplica)


def test_the_ring_gives_each_replica_its_part() -> None:
    """With 64 points each, ten replicas have a tenth each of 20,000 keys, to within a half."""
    ring = HashRing()
    slots = [Slot(f"r{number}", S.READY) for number in range(10)]
    ring.add(slots)
    found = Counter(next(ring.way_from(f"key{number}")).id for number in range(20_000))
    assert set(found) == {slot.id for slot in slots}
    assert all(1000 <= count <= 3000 for count in found.values())


def test_the_ring_takes_any_key() -> None:
    """Header values may hold anything, undecodable bytes among it."""
    ring = HashRing()
    ring.add([Slot("r0", S.READY)])
    rng = random.Random(0)
    for _ in range(100):
        key = bytes(rng.randrange(256) for _ in range(10)).decode("utf-8", "surrogateescape")
        assert [slot.id for slot in ring.way_from(key)] == ["r0"]
    assert list(HashRing().way_from("s")) == []
