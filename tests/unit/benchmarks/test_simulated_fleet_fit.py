"""The embedded engine's timing from probes: what went into them comes out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from benchmarks.simulated_fleet_fit import Probes, busy_s, embedded_timing, probe

PER_TOKEN_S, REQUEST_S, PER_ANSWER_S = 0.004, 0.009, 0.008


@dataclass(frozen=True)
class Asked:
    prompt_tokens: int
    ttft_s: float
    e2e_s: float
    tokens: int


def _probes(slower: float = 1.0) -> Probes:
    prompts = [(tokens, slower * (REQUEST_S + tokens * PER_TOKEN_S)) for tokens in range(16, 160, 12)]
    return Probes(prompts, {users: slower * PER_ANSWER_S * users for users in (1, 2, 3, 4)})


def test_prompts_steps_and_the_way_are_told_apart() -> None:
    """From times to first tokens and between tokens come the rate of prompts, what each answer adds to a step, and what
    a request takes besides."""
    timing = embedded_timing([_probes()], 4)
    assert 1 / timing.prefill_tokens_per_s == pytest.approx(PER_TOKEN_S)
    assert timing.request_s == pytest.approx(REQUEST_S)
    assert timing.step_s_of(1) == pytest.approx(PER_ANSWER_S)
    assert timing.step_s_of(4) == pytest.approx(4 * PER_ANSWER_S)
    assert busy_s(timing, 64, 24) == pytest.approx(64 * PER_TOKEN_S + 24 * PER_ANSWER_S)


def test_a_stall_in_a_probe_does_not_move_the_fit() -> None:
    """One of a dozen prompts that took half a second longer leaves the rate of prompts where it was."""
    probes = _probes()
    tokens, took_s = probes.prompts[-1]
    stalled = Probes([*probes.prompts[:-1], (tokens, took_s + 0.5)], probes.step_s)
    assert embedded_timing([stalled], 4).prefill_tokens_per_s == pytest.approx(1 / PER_TOKEN_S, rel=0.02)


def test_two_probes_of_a_machine_that_slowed_down_meet_in_the_middle() -> None:
    """What was probed before a load and after it counts the same."""
    timing = embedded_timing([_probes(), _probes(1.1)], 4)
    assert timing.step_s_of(4) == pytest.approx(1.05 * 4 * PER_ANSWER_S)
    assert 1 / timing.prefill_tokens_per_s == pytest.approx(1.05 * PER_TOKEN_S, rel=0.01)


def test_each_number_of_answers_is_probed_by_waves_of_that_many() -> None:
    """Prompts are probed alone, steps with one to all slots taken, and a wave's first, into whose answer the others'
    prompts fall, does not count for more than one of them."""

    def bench(*words: str) -> list[Asked]:
        said = dict(zip(words[::2], words[1::2], strict=True))
        users, output = int(said["-c"]), int(said["-o"])
        steps = output - 1
        late_s = 5.0 if users > 2 else 0.0
        return [
            Asked(
                50 + number, 0.3, 0.3 + steps * PER_ANSWER_S * users + (late_s if number == 0 else 0), output
            )
            for number in range(int(said["-n"]))
        ]

    found = probe(bench, 4)
    assert found.prompts[0] == (50, 0.3)
    assert found.step_s == pytest.approx({users: PER_ANSWER_S * users for users in (1, 2, 3, 4)})
