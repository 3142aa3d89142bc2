"""As many replicas as keep the objectives, ahead of the load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferry.core.latency_counts import LatencyCounts, bucket_of
from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.policy.scaling.decision import ReplicaCapacity, Wish
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.policy.scaling.signals import Signals
from inferry.policy.scaling.slo import SloSizer
from inferry.policy.scaling.slo_capacity import Carried, kept
from inferry.policy.scaling.windows import Window

EVERY_S = 10.0


class Looks:
    """A deployment that is shown to a sizer look by look; latencies are as told."""

    def __init__(self, sizer: SloSizer, *, serving: int, wanted: int | None = None) -> None:
        self.sizer = sizer
        self.serving = serving
        self.wanted = serving if wanted is None else wanted
        self._signals = Signals(EVERY_S, sizer.windows_s)
        self._now_s = 0.0
        self._arrived = self._ended = self._failed = 0
        self._ttft, self._itl = LatencyCounts(), LatencyCounts()

    def show(
        self,
        arrivals: int,
        *,
        ended: int | None = None,
        failed: int = 0,
        waiting: int = 0,
        itl_s: float = 0.06,
    ) -> Wish:
        """`ended`: with those that failed; left out, as many as arrived."""
        ended = arrivals if ended is None else ended
        self._now_s += EVERY_S
        self._arrived += arrivals
        self._ended += ended
        self._failed += failed
        self._ttft.add(LatencyCounts({bucket_of(0.3): ended - failed}))
        self._itl.add(LatencyCounts({bucket_of(itl_s): ended - failed}))
        return self._wish(
            Traffic(
                arrived=self._arrived,
                ended=self._ended,
                failed=self._failed,
                waiting=waiting,
                ttft=self._ttft.copy(),
                itl=self._itl.copy(),
            )
        )

    def outage(self) -> Wish:
        """The gateways don't answer."""
        self._now_s += EVERY_S
        return self._wish(None)

    def _wish(self, traffic: Traffic | None) -> Wish:
        readings = tuple(ReplicaReading(str(number)) for number in range(self.serving))
        seen = Observation(self._now_s, self.wanted, readings, traffic=traffic, start_s=120.0)
        self._signals.look(seen)
        return self.sizer.wish(seen, self._signals)


def sizer(per_s: float | None = 2.0) -> SloSizer:
    settings = Scaling(max=256, slo=ScalingSlo(ttft_ms=2000, itl_ms=100))
    return SloSizer(
        settings, None if per_s is None else ReplicaCapacity(per_s, 1000, 200, "a test's planner")
    )


def number(wish: Wish) -> int:
    assert wish.to is not None, wish.because
    return wish.to


def test_load_over_capacity_with_some_to_spare() -> None:
    """40 requests/s at 2 each: at least 20, and not a third more."""
    looks = Looks(sizer(), serving=20)
    for _ in range(60):
        wish = looks.show(400)
    assert 20 <= number(wish) <= 26
    assert "one replica carries 2" in wish.because
    assert "a test's planner" in wish.because


def test_a_step_is_answered_within_two_looks() -> None:
    """Half as much again is no noise: two looks later, enough are wanted for it."""
    looks = Looks(sizer(), serving=24)
    for _ in range(60):
        looks.show(400)
    looks.show(600, ended=480)
    assert number(looks.show(600, ended=480)) >= 30


def test_noise_moves_nothing() -> None:
    """Counts that differ by 5 % from look to look end in the same number at each (ray-project/ray#26455: up and down
    in turns)."""
    looks = Looks(sizer(), serving=24)
    wishes = []
    for turn in range(200):
        wish = looks.show(400 + (20 if turn % 2 else -20))
        if turn:
            looks.wanted = looks.serving = number(wish)
            wishes.append(number(wish))
    assert len(set(wishes[60:])) == 1


def test_no_answer_from_gateways_is_no_wish() -> None:
    """An outage of metrics is not an idle deployment (llm-d-autoscaling, pull request 1981)."""
    looks = Looks(sizer(), serving=24)
    for _ in range(10):
        looks.show(400)
    assert looks.outage().to is None


@pytest.mark.parametrize(("told", "low", "high"), [(6.0, 1.8, 2.6), (0.5, 0.75, 2.3), (None, 1.0, 2.3)])
def test_a_wrong_figure_is_put_right(told: float | None, low: float, high: float) -> None:
    """Replicas carry 2: a planner's figure of 6 falls until what is spared covers the rest, one of 0.5 rises while
    latencies are easy, and none at all is found without asking for twice as many as it takes."""
    looks = Looks(sizer(told), serving=20)
    for _ in range(300):
        _served(looks, 400, 2.0)
    learned = looks.sizer.inputs["replica_requests_per_s"]
    assert learned is not None
    assert low <= learned <= high


def _served(looks: Looks, arrivals: int, truth: float) -> None:
    """Replicas that carry `truth` each: the rest finds no place; steps grow with the load up to 96 ms."""
    room = int(looks.serving * truth * EVERY_S)
    load = min(arrivals / room, 1.0)
    wish = looks.show(arrivals, failed=max(arrivals - room, 0), itl_s=0.03 / (1 - 0.6875 * load))
    if wish.to is not None:
        looks.wanted = looks.serving = max(wish.to, 1)


def test_misses_make_more_to_spare() -> None:
    """A tenth of the requests failing for minutes leaves more to spare than none failing."""

    def spare_after(failed: int) -> float:
        looks = Looks(sizer(), serving=30)
        for _ in range(100):
            looks.show(400, failed=failed)
        spare = looks.sizer.inputs["spare_share"]
        assert spare is not None
        return spare

    assert spare_after(40) > 1.3 * spare_after(0)


def test_forecasts_that_fell_short_make_more_to_spare() -> None:
    """Traffic that jumps and falls gets more to spare than traffic that stays."""

    def spare_after(arrivals: Callable[[int], int]) -> float:
        looks = Looks(sizer(), serving=30)
        for turn in range(360):
            looks.show(arrivals(turn))
        spare = looks.sizer.inputs["spare_share"]
        assert spare is not None
        return spare

    assert spare_after(lambda turn: 600 if turn // 60 % 2 else 400) > 1.5 * spare_after(lambda turn: 400)


def test_what_waits_is_caught_up_with() -> None:
    """With 3,000 requests waiting, more are wanted than for the load alone."""
    looks = Looks(sizer(), serving=24)
    for _ in range(60):
        calm = looks.show(400)
    wish = looks.show(400, waiting=3000)
    assert number(wish) >= number(calm) + 20
    assert "to catch up" in wish.because


def test_what_nobody_saw_was_not_kept() -> None:
    """Of answers that are not streamed there is no TTFT, and one stream does not speak for a hundred of them: nothing
    is learned, where "all kept" would take replicas away. Where a good part fails, that is said without latencies."""
    slo = ScalingSlo(ttft_ms=2000)
    one = LatencyCounts({bucket_of(0.1): 1})
    for ttft in (LatencyCounts(), one):
        assert kept(_window(ended=100, failed=0, ttft=ttft), slo) is None
    how = kept(_window(ended=100, failed=50, ttft=one), slo)
    assert how is not None
    assert (how.share, how.ratio) == (0.5, 1.0)


def test_an_objective_that_nothing_keeps_does_not_take_all_replicas_there_are() -> None:
    """A TTFT of 3 s at any load, and 2 s wanted: without a planned figure, too, it is a quarter of the first guess at
    least that a replica is taken to carry."""
    carried = Carried(ScalingSlo(ttft_ms=2000), None)
    seen = Observation(0.0, 2, (ReplicaReading("0"), ReplicaReading("1")))
    first, load = 0.0, 1.0
    for _ in range(500):
        window = _window(
            ended=100,
            failed=0,
            ttft=LatencyCounts({bucket_of(3.0): 100}),
            replica_s=100 / load,
            span_s=50 / load,
        )
        carried.look(seen, window, window)
        assert carried.per_s is not None
        first = first or carried.per_s
        load = carried.per_s * 0.9
    assert carried.per_s is not None
    assert carried.per_s >= 0.2 * first


def test_where_all_fails_from_the_first_request_nothing_is_guessed() -> None:
    """No figure comes of it, rather than one of 0, by which nothing could be divided."""
    carried = Carried(ScalingSlo(ttft_ms=2000), None)
    seen = Observation(0.0, 2, (ReplicaReading("0"), ReplicaReading("1")))
    window = _window(ended=100, failed=100, ttft=LatencyCounts())
    carried.look(seen, window, window)
    assert carried.per_s is None


def _window(
    *, ended: int, failed: int, ttft: LatencyCounts, replica_s: float = 100.0, span_s: float = 50.0
) -> Window:
    after = Traffic(arrived=ended, ended=ended, failed=failed, ttft=ttft)
    return Window(Traffic(), after, span_s, True, replica_s)
