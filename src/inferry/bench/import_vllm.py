"""Results of `vllm bench serve --save-result`, with `--save-detailed` or without.

Keys as in vllm/benchmarks/serve.py; tried with 0.32. Times are seconds; an error's text says that a
request failed. What counts there as a success may be none: an error inside a stream is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from inferry.bench.imported_result import from_figures, from_requests
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.report_json import Result
from inferry.bench.summary import Distribution, RequestRates, Tokens

MADE_BY = "vllm bench serve"
_LACKING = (
    "ttft_answer_ms: reasoning is not told from the answer",
    "connect_ms: connecting is part of the time to the first token",
    "cache: not recorded",
)
_NO_REQUESTS = (
    "with_failures, goodput.share, intervals and comparisons: saved without --save-detailed, so there are no requests",
    "icl_ms, stall_ms, slip_ms, figures from due: not saved",
)


def is_it(found: dict[str, Any]) -> bool:
    return "completed" in found and "request_throughput" in found and "model_id" in found


def read(found: dict[str, Any]) -> Result:
    """KeyError, TypeError or ValueError when a field is missing or of another form."""
    if found.get("start_times") and found.get("ttfts") and found.get("itls") is not None:
        return _from_requests(found)
    return _from_figures(found)


def _from_requests(found: dict[str, Any]) -> Result:
    starts: Sequence[float] = found["start_times"]
    # The time that a request waited for a free place of --max-concurrency; older versions don't tell it.
    waited: Sequence[float] = found.get("queue_times") or [0.0] * len(starts)
    begin = min(start - wait for start, wait in zip(starts, waited, strict=True))
    errors: Sequence[str] = found.get("errors") or [""] * len(starts)
    requests = [
        _request(
            number,
            due_s=start - wait - begin,
            sent_s=start - begin,
            ttft_s=found["ttfts"][number],
            gaps=found["itls"][number],
            tokens=found["output_lens"][number],
            prompt=found["input_lens"][number],
            error=errors[number],
        )
        for number, (start, wait) in enumerate(zip(starts, waited, strict=True))
    ]
    lacking = list(_LACKING)
    if "queue_times" not in found:
        lacking.append(
            "slip_ms, figures from due: when requests were due is not saved; taken for when they were sent"
        )
    notes = (
        "Tokens per chunk are not saved: each answer's are spread evenly over its chunks.",
        "The first token is the first event with a choice, in chats the role's, which has no text.",
        "An answer ends with its last event that has a choice.",
    )
    result = from_requests(MADE_BY, requests, lacking, notes)
    rates = msgspec.structs.replace(result.requests_per_s, asked=_asked(found))
    return msgspec.structs.replace(result, requests_per_s=rates)


def _asked(found: dict[str, Any]) -> float | None:
    """None: as many as possible at once, which it calls `inf`."""
    asked = found.get("request_rate")
    return float(asked) if isinstance(asked, int | float) else None


def _request(
    number: int,
    *,
    due_s: float,
    sent_s: float,
    ttft_s: float,
    gaps: Sequence[float],
    tokens: int,
    prompt: int,
    error: str,
) -> RequestRecord:
    if error or not tokens:
        lines = error.strip().splitlines() or ["no tokens"]
        return RequestRecord(
            number=number, verdict=Verdict.MALFORMED, reason=lines[-1], due_s=due_s, sent_s=sent_s
        )
    times = [sent_s + ttft_s]
    for gap in gaps:
        times.append(times[-1] + gap)
    return RequestRecord(
        number=number,
        verdict=Verdict.OK,
        due_s=due_s,
        sent_s=sent_s,
        first_token_s=times[0],
        last_token_s=times[-1],
        ended_s=times[-1],
        input_tokens=prompt,
        output_tokens=tokens,
        token_source="usage",
        chunk_s=tuple(times),
        chunk_tokens=(tokens / len(times),) * len(times),
    )


def _from_figures(found: dict[str, Any]) -> Result:
    ok = int(found["completed"])
    failed = int(found["failed"]) if "failed" in found else int(found["num_prompts"]) - ok
    return from_figures(
        MADE_BY,
        ok=ok,
        failed=failed,
        lacking=(*_LACKING, *_NO_REQUESTS),
        rates=RequestRates(
            asked=_asked(found),
            due=None,
            sent=None,
            ok=float(found["request_throughput"]),
        ),
        tokens=Tokens(
            input=int(found["total_input_tokens"]),
            output=int(found.get("total_output_tokens") or 0),
            reasoning=0,
            output_asked=None,
            sources={"usage": ok},
        ),
        output_tokens_per_s=found.get("output_throughput"),
        duration_s=float(found["duration"]),
        ttft_ms=_distribution(found, "ttft", ok),
        tpot_ms=_distribution(found, "tpot", ok),
        icl_ms=_distribution(found, "itl", ok),
        e2e_ms=_distribution(found, "e2el", ok),
    )


def _distribution(found: dict[str, Any], name: str, count: int) -> Distribution:
    """What it calls ITL is per chunk. Only those percentiles that were asked for are there."""
    if found.get(f"mean_{name}_ms") is None:
        return Distribution(count=0)
    return Distribution(
        count=count,
        mean=found[f"mean_{name}_ms"],
        p50=found.get(f"median_{name}_ms"),
        p90=found.get(f"p90_{name}_ms"),
        p95=found.get(f"p95_{name}_ms"),
        p99=found.get(f"p99_{name}_ms"),
        few=("p99",) if count < 100 else (),
    )
