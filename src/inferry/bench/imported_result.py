"""Another tool's result in our form: what it has, computed by us from its requests, and what it lacks, named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from inferry.bench.goodput import Goodput
from inferry.bench.plan import Slo
from inferry.bench.records import RequestRecord, RunRecord
from inferry.bench.report_json import Result, RunResult, columns
from inferry.bench.summary import (
    Distribution,
    RequestRates,
    Requests,
    Summary,
    Tokens,
    WithFailures,
    summarise,
)

NONE = Distribution(count=0)


def from_requests(
    made_by: str,
    requests: Sequence[RequestRecord],
    lacking: Sequence[str],
    notes: Sequence[str] = (),
    **known: Any,
) -> Result:
    """Figures by our rules from their times; `known` is what the tool says itself, for want of times."""
    record = RunRecord(
        api="chat",
        started_wall_s=0.0,
        duration_s=max((request.ended_s or request.due_s for request in requests), default=0.0),
        requests=tuple(requests),
    )
    summary = summarise(None, record)
    counted = summary.requests
    # Which way a request failed is not what the other tool looks at.
    verdicts = {"ok": counted.ok, "failed": counted.failed, "abandoned": counted.abandoned}
    counted = msgspec.structs.replace(
        counted, by_verdict={word: count for word, count in verdicts.items() if count}
    )
    kept = columns(record.requests, Slo())
    words = ["failed" if request.failed else str(request.verdict) for request in _as_kept(requests)]
    return _result(
        made_by,
        msgspec.structs.replace(summary, requests=counted, **known),
        lacking,
        notes=tuple(notes),
        duration_s=record.duration_s,
        per_request=msgspec.structs.replace(kept, verdict=words),
    )


def from_figures(
    made_by: str,
    *,
    ok: int,
    failed: int,
    lacking: Sequence[str],
    rates: RequestRates,
    tokens: Tokens,
    output_tokens_per_s: float | None,
    duration_s: float | None,
    **distributions: Distribution,
) -> Result:
    """Of a result without requests: only what it says itself. Distributions that are not given have no values."""
    summary = Summary(
        requests=Requests(
            due=ok + failed,
            sent=ok + failed,
            ok=ok,
            failed=failed,
            abandoned=0,
            unsent=0,
            warmup=0,
            by_verdict={word: count for word, count in (("ok", ok), ("failed", failed)) if count},
        ),
        with_failures=WithFailures(ttft_ms=NONE, ttft_from_due_ms=NONE, e2e_ms=NONE, e2e_from_due_ms=NONE),
        requests_per_s=rates,
        output_tokens_per_s=output_tokens_per_s,
        input_tokens_per_s=None,
        tokens=tokens,
        cache=None,
        goodput=Goodput(good=0, of=0, share=None, between=(0.0, 1.0), per_s=None),
        window=None,
        cost=None,
        energy=None,
        **{name: distributions.get(name, NONE) for name in _DISTRIBUTIONS},
    )
    return _result(made_by, summary, lacking, duration_s=duration_s)


def together(results: Sequence[Result]) -> Result:
    """Several results of one file, at least one: the last above, all of them as runs."""
    if len(results) == 1:
        return results[0]
    runs = tuple(
        RunResult(**{name: getattr(one, name) for name in RunResult.__struct_fields__}) for one in results
    )
    return msgspec.structs.replace(results[-1], runs=runs)


_DISTRIBUTIONS = (
    "ttft_ms",
    "ttft_from_due_ms",
    "ttft_answer_ms",
    "itl_ms",
    "icl_ms",
    "tpot_ms",
    "stall_ms",
    "e2e_ms",
    "e2e_from_due_ms",
    "connect_ms",
    "slip_ms",
)


def _as_kept(requests: Sequence[RequestRecord]) -> list[RequestRecord]:
    return sorted(requests, key=lambda request: (request.due_s, request.number))


def _result(made_by: str, summary: Summary, lacking: Sequence[str], **more: Any) -> Result:
    return Result(
        **{name: getattr(summary, name) for name in summary.__struct_fields__},
        verdict="suspect",
        reasons=(f"made by {made_by}, which does not say whether its client kept up",),
        made_by=made_by,
        lacking=tuple(lacking),
        **more,
    )
