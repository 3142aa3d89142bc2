"""Results of `guidellm` in JSON, of versions that keep each request's timings. Tried with 0.8.1.

Times are of the wall clock. It keeps the first and the last token's, none between: gaps between tokens are known as
one mean per request only, which shows no tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from inferry.bench.imported_result import from_requests, together
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.report_json import Result
from inferry.bench.summary import RequestRates

MADE_BY = "guidellm"
_LACKING = (
    "itl_ms, icl_ms, stall_ms: only the first and the last token's times are saved; tpot_ms has the means",
    "connect_ms: connecting is part of the time to the first token",
    "input_tokens_per_s: of all the run, not of its steady window; output_tokens_per_s too",
)
_NOTE = "Times are of a wall clock, which may step."


def is_it(found: dict[str, Any]) -> bool:
    return isinstance(found.get("benchmarks"), list) and isinstance(found.get("metadata"), dict)


def read(found: dict[str, Any]) -> Result:
    """The last of its benchmarks above, all of them as runs. KeyError, TypeError, ValueError for another form."""
    made_by = f"{MADE_BY} {found['metadata'].get('guidellm_version', '')}".strip()
    runs = [_run(made_by, benchmark) for benchmark in found["benchmarks"]]
    if not runs:
        raise ValueError("it has no benchmarks")
    return together(runs)


def _run(made_by: str, benchmark: dict[str, Any]) -> Result:
    by_end = benchmark["requests"]
    judged = [
        (verdict, request)
        for name, verdict in (
            ("successful", Verdict.OK),
            ("errored", Verdict.MALFORMED),
            # Under way when it stopped.
            ("incomplete", Verdict.ABANDONED),
        )
        for request in by_end.get(name) or []
    ]
    times = [_due_s(request) for _, request in judged]
    begin = min(times, default=0.0)
    judged.sort(key=lambda pair: _due_s(pair[1]))
    requests = [_request(number, verdict, request, begin) for number, (verdict, request) in enumerate(judged)]
    ok = [request for request in requests if request.verdict is Verdict.OK]
    seconds = float(benchmark["duration"])
    strategy = (benchmark.get("config") or {}).get("strategy") or {}
    result = from_requests(
        made_by,
        requests,
        _LACKING,
        (_NOTE,),
        output_tokens_per_s=sum(request.output_tokens for request in ok) / seconds if seconds > 0 else None,
        input_tokens_per_s=_per_s(ok, seconds),
    )
    rates = result.requests_per_s
    asked = RequestRates(asked=strategy.get("rate"), due=rates.due, sent=rates.sent, ok=rates.ok)
    return msgspec.structs.replace(result, name=str(strategy.get("type_") or ""), requests_per_s=asked)


def _per_s(ok: Sequence[RequestRecord], seconds: float) -> float | None:
    return sum(request.input_tokens or 0 for request in ok) / seconds if seconds > 0 else None


def _due_s(request: dict[str, Any]) -> float:
    timings = request["info"]["timings"]
    for name in ("targeted_start", "request_start", "resolve_start", "queued"):
        if timings.get(name) is not None:
            return float(timings[name])
    raise ValueError(f"request {request.get('request_id')} has no time at all")


def _request(number: int, verdict: Verdict, request: dict[str, Any], begin: float) -> RequestRecord:
    timings = request["info"]["timings"]

    def at(name: str) -> float | None:
        return None if timings.get(name) is None else float(timings[name]) - begin

    if verdict is Verdict.OK and at("request_start") is None:
        raise ValueError(f"request {request.get('request_id')} succeeded and was never started")
    return RequestRecord(
        number=number,
        verdict=verdict,
        reason=request["info"].get("error") or "",
        due_s=_due_s(request) - begin,
        sent_s=at("request_start"),
        first_token_s=at("first_token_iteration"),
        first_answer_s=at("first_output_token_iteration"),
        last_token_s=at("last_token_iteration"),
        ended_s=at("request_end"),
        input_tokens=request.get("prompt_tokens"),
        output_tokens=request.get("output_tokens") or 0,
        cached_tokens=request.get("cached_tokens"),
        token_source="usage",
    )
