"""llm-d's SLO-aware law for KEDA, imitated: P90 latencies over their objectives, held in a band.

Every 15 s: the worse of P90 TTFT and P90 time per token over the last minute, each over its objective, at most 2; the
mean of that over 45 s is s. Above 0.55: n + ceil(n (s c / 0.55 - 1)), with c the share of the replicas that is ready;
below 0.40: n - floor(n (1 - s / 0.40)); in between as it is. Then an HPA's behavior: up 100 % or 4 pods per 60 s after
30 s, down 1 pod per 120 s after 180 s. Here s is of measured latencies, as the guide says where none are predicted.
https://llm-d.ai/docs/dev/operations/autoscaling/slo-aware ; llm-d/llm-d,
guides/workload-autoscaling/README.slo-aware.md at d38c9f0c
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor

from inferry.policy.scaling.decision import ScalingDecision
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.windows import Windows
from inferry.simulate.rivals.hpa import Behavior, Steps, decision

LLM_D = Behavior(
    up_stabilize_s=30.0,
    up_per_s=60.0,
    down_stabilize_s=180.0,
    down_share=0.0,
    down_pods=1,
    down_per_s=120.0,
)
PERCENTILE = 0.9
CLAMP = 2.0
SMOOTH_LOOKS = 3
"""45 s."""


class LlmD:
    """For a TTFT and a time per token."""

    every_s = 15.0

    def __init__(
        self,
        ttft_s: float,
        itl_s: float,
        *,
        low: int = 1,
        high: int = 256,
        band: tuple[float, float] = (0.40, 0.55),
        behavior: Behavior = LLM_D,
    ) -> None:
        self._limits = {"ttft_ms": ttft_s, "itl_ms": itl_s}
        self._low, self._high = low, high
        self._down, self._up = band
        self._windows = Windows(self.every_s, {60.0})
        self._recent: deque[float] = deque(maxlen=SMOOTH_LOOKS)
        self._steps = Steps(behavior)

    def decide(self, seen: Observation) -> ScalingDecision:
        self._windows.look(seen.now_s, seen.traffic, len(seen.serving))
        window = self._windows.last(60.0)
        raw = 0.0
        if window is not None:
            for metric, limit_s in self._limits.items():
                raw = max(raw, (window.latency(metric).quantile_s(PERCENTILE) or 0.0) / limit_s)
        self._recent.append(min(raw, CLAMP))
        saturation = sum(self._recent) / len(self._recent)
        desired = self._desired(seen.wanted, len(seen.serving), saturation)
        to = self._steps.next(seen.now_s, seen.wanted, min(max(desired, self._low), self._high))
        return decision(seen, to, "llm-d, imitated", f"saturation {saturation:.2f}: {desired}")

    def _desired(self, count: int, ready: int, saturation: float) -> int:
        if saturation > self._up:
            credit = ready / count if 0 < ready < count else 1.0
            return count + ceil(count * (saturation * credit / self._up - 1))
        if saturation < self._down:
            return count - floor(count * (1 - saturation / self._down))
        return count
