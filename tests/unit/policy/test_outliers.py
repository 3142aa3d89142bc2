"""Which replicas are set aside for being far worse than their peers, and how many at most."""

from __future__ import annotations

from random import Random
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from inferry.core.health_settings import Outliers as Settings
from inferry.policy.outliers import PeerRecord, aside_s, find_outliers
from inferry.policy.recent_requests import RequestCounts
from inferry.policy.slow_start import SHARE_MIN, share_of

SETTINGS = Settings()


def peer(
    name: str,
    failures: int = 0,
    ttft_s: float = 0.1,
    in_flight: int = 4,
    requests: int = 100,
    aside: bool = False,
) -> PeerRecord:
    recent = RequestCounts(requests, failures, requests, ttft_s * requests)
    return PeerRecord(name, recent, in_flight, aside)


def found(*peers: PeerRecord) -> list[str]:
    return [each.replica_id for each in find_outliers(peers, SETTINGS)]


def test_one_that_fails_far_more_than_its_peers() -> None:
    """A quarter against nothing is far; a tenth is not; and a quarter is not where a tenth fails everywhere."""
    assert found(peer("a", 25), peer("b"), peer("c")) == ["a"]
    assert found(peer("a", 10), peer("b"), peer("c")) == []
    assert found(peer("a", 25), peer("b", 10), peer("c", 10)) == []
    (outlier,) = find_outliers([peer("a", 25), peer("b")], SETTINGS)
    assert outlier.because == "25% of its requests fail, and 0% of its peers'"


def test_one_that_is_far_slower_on_the_same_load() -> None:
    """Eight times as slow, and by more than a second; milliseconds are no reason."""
    assert found(peer("a", ttft_s=2.5), peer("b"), peer("c")) == ["a"]
    assert found(peer("a", ttft_s=0.7), peer("b"), peer("c")) == []
    assert found(peer("a", ttft_s=0.5), peer("b", ttft_s=0.01), peer("c", ttft_s=0.01)) == []


def test_a_full_replica_is_no_outlier() -> None:
    """It is slow since it holds more than the others: saturated is never sick."""
    assert found(peer("a", ttft_s=30, in_flight=64), peer("b"), peer("c")) == []


def test_few_requests_say_nothing() -> None:
    """Nineteen of twenty failures are as many as the file asks for, minus one."""
    assert found(peer("a", 19, requests=19), peer("b")) == []
    assert found(peer("a", 20, requests=20), peer("b")) == ["a"]


def test_one_alone_has_no_peers() -> None:
    """However bad it is, it is all that there is."""
    assert found(peer("a", 100)) == []


def test_the_worst_goes_first_and_half_stay() -> None:
    """Of four, two may be aside, counting those that are already."""
    bad = [peer("a", 60), peer("b", 90), peer("c"), peer("d"), peer("e")]
    assert found(*bad) == ["b", "a"]
    assert found(*bad, peer("f", aside=True), peer("g", aside=True)) == ["b"]


def test_asides_grow() -> None:
    """10, 20, 40 s, and 300 at most."""
    assert [aside_s(times, SETTINGS) for times in (1, 2, 3, 9, 2000)] == [10, 20, 40, 300, 300]


peers = st.lists(
    st.builds(
        peer,
        st.text("abcdefgh", min_size=1, max_size=3),
        st.integers(0, 100),
        st.floats(0, 60),
        st.integers(0, 100),
        st.integers(100, 1000),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.replica_id,
)


@given(peers, st.floats(0, 1))
def test_never_too_many(them: list[PeerRecord], share_max: float) -> None:
    """Never more than the share, never the last one, nobody twice, and nobody who is aside."""
    outliers = find_outliers(them, Settings(share_max=share_max))
    names = [each.replica_id for each in outliers]
    aside = {each.replica_id for each in them if each.aside}
    assert len(set(names)) == len(names)
    assert not aside & set(names)
    if names:
        assert len(aside) + len(names) <= share_max * len(them)
        assert len(aside) + len(names) < len(them)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 60))
def test_slow_start_only_grows_and_ends_at_all_of_it(
    one_s: float, more_s: float, slow_start_s: float
) -> None:
    """From a tenth to the whole weight, never back."""
    first, later = share_of(one_s, slow_start_s), share_of(one_s + more_s, slow_start_s)
    assert SHARE_MIN <= first <= later <= 1
    assert share_of(slow_start_s, slow_start_s) == 1


def test_slow_start_example() -> None:
    """After 3 of 10 s, 0.37."""
    assert round(share_of(3, 10), 4) == 0.37


def test_each_of_many_is_held_against_the_median_of_the_others() -> None:
    """Sorted once for all: the same replicas are found as by the medians of all others, one by one."""
    rng = Random(1)
    settings = Settings(requests_min=1, ttft_factor=2.0)
    for _ in range(200):
        peers = [
            PeerRecord(str(number), RequestCounts(10, rng.choice([0, 0, 3, 9]), 10, rng.choice([5.0, 9.0, 90.0])), 1, False)
            for number in range(rng.randint(2, 9))
        ]  # fmt: skip
        expected = set()
        for peer in peers:
            others = [other.recent for other in peers if other is not peer]
            fails = peer.recent.failures / 10 - median(other.failures / 10 for other in others) > 0.2
            theirs_s = median(other.ttft_sum_s / 10 for other in others)
            if fails or peer.recent.ttft_sum_s / 10 > max(2.0 * theirs_s, theirs_s + 1.0):
                expected.add(peer.replica_id)
        found = {each.replica_id for each in find_outliers(peers, settings)}
        assert found <= expected
        assert len(found) == min(len(expected), max(min(len(peers) // 2, len(peers) - 1), 0))
