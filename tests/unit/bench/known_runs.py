"""Runs that are made up, with known figures, for the tests of what is computed from runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferry.bench.plan import Arrivals, Constant, Lengths, RunPlan, Slo, Synthetic, Target
from inferry.bench.records import ClientAudit, RequestRecord, RunRecord, Verdict


def plan(*, arrivals: Arrivals | None = None, slo: Slo | None = None, processes: int = 1) -> RunPlan:
    lengths = Lengths(mean=10)
    return RunPlan(
        target=Target(base_url="http://127.0.0.1:1/v1", model="m"),
        arrivals=arrivals or Constant(rate=10),
        workload=Synthetic(input_tokens=lengths, output_tokens=lengths),
        duration_s=10,
        slo=slo or Slo(),
        processes=processes,
    )


def request(
    number: int = 0,
    *,
    due_s: float = 0.0,
    slip_s: float = 0.0,
    ttft_s: float = 0.1,
    gap_s: float = 0.01,
    chunks: Sequence[float] = (1, 1, 1, 1),
    verdict: Verdict = Verdict.OK,
    **more: Any,
) -> RequestRecord:
    """Sent `slip_s` after it was due; chunks of so many tokens, the first after `ttft_s`, then one each `gap_s`."""
    if verdict in (Verdict.UNSENT, Verdict.CONNECT):
        return RequestRecord(number=number, due_s=due_s, verdict=verdict, **more)
    sent_s = due_s + slip_s
    times = tuple(sent_s + ttft_s + gap_s * place for place in range(len(chunks)))
    known: dict[str, Any] = {
        "sent_s": sent_s,
        "first_byte_s": sent_s,
        "first_token_s": times[0] if times else None,
        "first_answer_s": times[0] if times else None,
        "last_token_s": times[-1] if times else None,
        "ended_s": times[-1] if times else sent_s + ttft_s,
        "status": 200,
        "output_tokens": round(sum(chunks)),
        "token_source": "usage_per_chunk",
        "input_tokens": 10,
        "chunk_s": times,
        "chunk_tokens": tuple(float(tokens) for tokens in chunks),
    }
    return RequestRecord(number=number, due_s=due_s, verdict=verdict, **(known | more))


def audit(**more: Any) -> ClientAudit:
    """Of a process that had little to do."""
    easy: dict[str, Any] = {
        "process": 0,
        "wall_s": 10.0,
        "cpu_s": 1.0,
        "lag_ms_p50": 0.05,
        "lag_ms_p99": 0.2,
        "lag_ms_max": 1.0,
        "slip_ms_p50": 0.1,
        "slip_ms_p99": 0.3,
        "slip_ms_max": 1.0,
        "connections": 4,
    }
    return ClientAudit(**(easy | more))


def run(requests: Sequence[RequestRecord], **more: Any) -> RunRecord:
    last = max((r.ended_s or r.due_s for r in requests), default=0.0)
    known: dict[str, Any] = {
        "api": "chat",
        "started_wall_s": 1.7e9,
        "duration_s": last,
        "requests": tuple(requests),
        "audits": (audit(),),
    }
    return RunRecord(**(known | more))
