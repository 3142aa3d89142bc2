"""What is scaled: a deployment, its objectives and its gateway, for each trace.

Lengths: m-small's own, weighted by rate, where the trace tells them (43 % of its requests: 147 tokens in, 20 out);
m-large's are not public in the data at hand, so it gets those of Azure's conversations of 2023 (1,155 in, 211 out).
Replicas are `EngineTiming`'s default, Llama 2 70B on eight H100, with 2,048 tokens a step. A replica may have as many
requests as keep steps at 60 % of the objective on average, which leaves room for what differs from answer to answer
(by_request.py looks at that); who would wait longer than a second is refused, which counts as missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.simulate.flow import FlowService
from inferry.simulate.timing import EngineTiming

TTFT_S, ITL_S = 2.0, 0.1
STEP_SHARE = 0.6
STEP_TOKENS = 2048
WAIT_MAX_S = 1
START_S = 120.0
MAX = 256
DAY_S = 86_400
TUNED_DAYS = 4
"""Policies are tuned on these first days of m-large, and on nothing else."""


@dataclass(frozen=True, slots=True)
class Scene:
    name: str
    file: str
    service: FlowService

    @property
    def per_s(self) -> float:
        return self.service.requests_per_s()


def slots_of(timing: EngineTiming, prompt_tokens: float, answer_tokens: float, step_s: float) -> int:
    """Requests of one replica that keep its steps at `step_s`, each bringing its prompt once in its answer's steps."""
    each_s = timing.step_s_per_sequence + prompt_tokens / timing.prefill_tokens_per_s / answer_tokens
    return max(int((step_s - timing.step_s) / each_s), 1)


def scene(name: str, prompt_tokens: float, answer_tokens: float, *, queue_bounded: bool = True) -> Scene:
    timing = EngineTiming(step_tokens_max=STEP_TOKENS)
    slots = slots_of(timing, prompt_tokens, answer_tokens, STEP_SHARE * ITL_S)
    service = FlowService(
        timing,
        prompt_tokens,
        answer_tokens,
        TTFT_S,
        ITL_S,
        START_S,
        gpus_per_replica=8,
        running_max=slots,
        wait_max_s=WAIT_MAX_S if queue_bounded else None,
    )
    return Scene(name, f"servegen_language_{name}_client_rates.csv.gz", service)


def scenes(*, queue_bounded: bool = True) -> list[Scene]:
    return [
        scene("m-large", 1155, 211, queue_bounded=queue_bounded),
        scene("m-small", 147, 20, queue_bounded=queue_bounded),
    ]
