"""What a `scaling:` section decides, look by look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import Wish
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.signals import Signals
from tests.unit.policy.scaling.looks import FIELD_RULES, Looks, scaling_of

FIELD = scaling_of(*FIELD_RULES, min=2)


class SizerThatSays:
    """Wants what the test says."""

    windows_s = (30.0,)
    inputs: Mapping[str, float | None] = {"forecast_requests_per_s": 41.0}

    def __init__(self, to: int | None) -> None:
        self.to = to

    def wish(self, seen: Observation, signals: Signals) -> Wish:
        return Wish("slo", self.to, "forecast 41 requests/s")


def test_the_fields_table_goes_up_for_heat_and_down_for_idleness() -> None:
    """GPU over 80 % for 5 minutes: one more; under 30 % for 10 minutes: one fewer, then another one, down to min."""
    chat = Looks(FIELD, wanted=3, gpu_use=0.9)
    assert chat.changes(310) == [(300.0, 4)]
    chat.gpu_use = 0.1
    assert chat.changes(2000) == [(910.0, 3), (1520.0, 2)]


def test_the_fields_table_goes_up_for_a_queue_at_once_and_by_two() -> None:
    """More than 50 wait: two more at that very look."""
    chat = Looks(FIELD)
    chat.looks(50)
    chat.at_gateways = 60
    decision = chat.look()
    assert (decision.was, decision.to, decision.rule) == (2, 4, "rules[2] queue_depth")
    assert decision.because == "rules[2] queue_depth: queue_depth is 60, above 50: 2 more"


def test_idle_gpus_remove_none_while_requests_are_slow() -> None:
    """GPUs wait for something else, and p95 is over 2 s: fewer replicas would make that worse."""
    cold_and_slow = [FIELD_RULES[1], {**FIELD_RULES[3], "add": 1}]
    chat = Looks(scaling_of(*cold_and_slow, max=4), wanted=4, gpu_use=0.1, latency_s=5.0)
    decisions = chat.looks(2000)
    assert {each.to for each in decisions} == {4}


def test_a_metric_outage_removes_none_however_long_it_lasts() -> None:
    """llm-d-autoscaling#1981. An hour without readings and without the gateways, then only with the gateways."""
    chat = Looks(FIELD, wanted=6, gpu_use=0.9)
    chat.looks(60)
    chat.told = chat.gateways = False
    chat.wanted, chat.gpu_use = 6, 0.0
    outage = chat.looks(3600)
    chat.gateways = True
    outage += chat.looks(3600)
    assert {each.to for each in outage} == {6}
    assert "0 of 6 replicas told it within 15 s" in outage[-1].because
    assert outage[-1].inputs["gpu_use"] is None


def test_a_file_with_only_up_rules_never_goes_down_and_says_so() -> None:
    """An operator who forgot the other half finds out why nothing leaves."""
    chat = Looks(scaling_of({"metric": "queue_depth", "above": 50, "add": 2}), wanted=5)
    decisions = chat.looks(7200)
    assert {each.to for each in decisions} == {5}
    assert decisions[-1].because == "no rule wants a change; no rule ever asks for fewer"


@pytest.mark.parametrize(("to", "expected"), [(5, 5), (3, 3), (1, 2), (None, 3)])
def test_a_sizer_is_one_more_wish(to: int | None, expected: int) -> None:
    """It can ask for more and for fewer (within min); if it can't tell, none leave, though a rule asks for fewer."""
    cold = {"metric": "gpu_use", "below": 0.3, "remove": 2}
    chat = Looks(scaling_of(cold, min=2), wanted=3, gpu_use=0.1, slo=SizerThatSays(to))
    first, second = chat.looks(20)
    assert second.to == expected
    assert second.wishes[-1] == Wish("slo", to, "forecast 41 requests/s")
    assert first.inputs["forecast_requests_per_s"] == 41.0


def test_asleep_it_answers_nothing_but_that() -> None:
    """superlinked/sie#293: 0 and 1 are load on demand's to change; even a queue is a request's business, not a
    rule's."""
    chat = Looks(
        scaling_of({"metric": "queue_depth", "above": 50, "add": 2}, min=0), wanted=0, at_gateways=99
    )
    decision = chat.look()
    assert (decision.was, decision.to, decision.because) == (0, 0, "asleep: a request wakes it")


def test_with_min_0_the_last_one_is_not_the_rules_to_remove() -> None:
    """Idleness takes it, by idle_unload_s; a rule that removes stops at 1 and says why."""
    chat = Looks(scaling_of({"metric": "gpu_use", "below": 0.3, "remove": 1}, min=0), gpu_use=0.0)
    decisions = chat.looks(100)
    assert decisions[-1].to == 1
    assert decisions[-1].because.endswith("at least 1: the last one leaves when it is idle, by idle_unload_s")


def test_after_waking_up_it_removes_none_by_what_was_before() -> None:
    """The window downwards begins with the first look at a deployment that is awake."""
    use = {"metric": "gpu_use", "target": 0.5}
    chat = Looks(scaling_of(use, min=0, down={"stabilize_s": 60}), wanted=0, gpu_use=0.0)
    chat.looks(600)
    chat.wanted = 3
    assert chat.changes(100) == [(660.0, 1)]


def test_the_same_looks_make_the_same_decisions() -> None:
    """Whatever is decided is a function of what was seen: nothing of time, chance or an order of names."""
    chat = Looks(FIELD, gpu_use=0.9)
    first = chat.looks(400)
    chat.at_gateways, chat.gpu_use = 80, 0.1
    first += chat.looks(1500)
    again = FileAutoscaler(FIELD)
    assert [again.decide(seen) for seen in chat.seen] == first
    turned = FileAutoscaler(FIELD)
    seen = [replace(each, serving=each.serving[::-1]) for each in chat.seen]
    assert [turned.decide(each) for each in seen] == first


def test_a_decision_carries_its_figures() -> None:
    """Each metric that was looked at, by name, window and percentile."""
    chat = Looks(FIELD)
    chat.looks(70)
    assert dict(chat.look().inputs) == {
        "gpu_use": pytest.approx(0.5),
        "queue_depth": 0,
        "e2e_ms p95 over 60 s": pytest.approx(500, rel=0.04),
        "error_rate over 60 s": 0.0,
    }
