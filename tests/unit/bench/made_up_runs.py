"""Records of runs that never were: a seeded queue with slots, so that pages and figures have something to show."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from inferry.bench.plan import Closed, Constant, Lengths, Poisson, RunPlan, Slo, Synthetic, Target
from inferry.bench.records import ClientAudit, EngineSample, RequestRecord, RunRecord, Verdict
from inferry.bench.report import ReportedRun
from inferry.bench.summary import summarise
from inferry.bench.validity import judge

NASTY = '<script>alert("x")</script>&'


def made_up_plan(rate: float = 20.0, duration_s: float = 30.0, **more: object) -> RunPlan:
    values: dict[str, object] = {
        "target": Target(base_url="http://127.0.0.1:9001/v1", model="m"),
        "arrivals": Poisson(rate),
        "workload": Synthetic(input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=64)),
        "duration_s": duration_s,
        "warmup_s": 2.0,
        "slo": Slo(ttft_ms=300, itl_ms=50, e2e_ms=10_000),
        "seed": 3,
    }
    return RunPlan(**(values | more))  # type: ignore[arg-type]


def made_up_run(
    rate: float = 20.0,
    duration_s: float = 30.0,
    *,
    seed: int = 3,
    slots: int = 32,
    tokens: int = 64,
    gap_s: float = 0.02,
    failures: Sequence[Verdict] = (),
    name: str = "",
    plan: RunPlan | None = None,
    engines: int = 1,
) -> ReportedRun:
    """Answers take a slot for their time; those that find none wait. Failures are spread evenly over the run."""
    chance = random.Random(seed)
    plan = plan or made_up_plan(rate, duration_s)
    free = [0.0] * slots
    requests: list[RequestRecord] = []
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(rate)) < duration_s:
        number = len(requests)
        sent_s = at_s + chance.uniform(0.0001, 0.0006)
        begun_s = max(sent_s, heapq.heappop(free))
        first_s = begun_s + 0.03 * chance.lognormvariate(0, 0.4)
        times = [first_s]
        for _ in range(tokens - 1):
            times.append(times[-1] + gap_s * chance.lognormvariate(0, 0.3))
        heapq.heappush(free, times[-1])
        verdict = Verdict.OK
        if failures and number % 17 == 5:
            verdict = failures[number // 17 % len(failures)]
        requests.append(_request(number, verdict, at_s, sent_s, times, plan))
    end_s = max(each.ended_s or each.due_s for each in requests)
    record = RunRecord(
        api="chat",
        started_wall_s=1_790_000_000.0,
        duration_s=end_s,
        requests=tuple(requests),
        audits=(_audit(0, end_s), _audit(1, end_s)),
        samples=tuple(_samples(requests, end_s, slots, engines)),
        notes=(f"a note with {NASTY}",),
    )
    summary = summarise(plan, record)
    return ReportedRun(
        plan=plan, record=record, summary=summary, validity=judge(plan, record, summary), name=name
    )


def _request(
    number: int, verdict: Verdict, due_s: float, sent_s: float, times: list[float], plan: RunPlan
) -> RequestRecord:
    common = {"number": number, "due_s": due_s, "warmup": due_s < plan.warmup_s, "input_tokens": 100}
    if verdict is Verdict.UNSENT:
        return RequestRecord(verdict=verdict, reason="no file descriptors left", **common)  # type: ignore[arg-type]
    if verdict in (Verdict.CONNECT, Verdict.HTTP_ERROR):
        reason = f"503 {NASTY}" if verdict is Verdict.HTTP_ERROR else "refused"
        return RequestRecord(
            verdict=verdict, reason=reason, sent_s=sent_s, ended_s=sent_s + 0.01, **common  # type: ignore[arg-type]
        )  # fmt: skip
    if verdict is not Verdict.OK:
        times = times[: len(times) // 2]
    return RequestRecord(
        verdict=verdict,
        reason="" if verdict is Verdict.OK else f"made up: {verdict.value}",
        sent_s=sent_s,
        first_byte_s=times[0],
        first_token_s=times[0],
        first_answer_s=times[0],
        last_token_s=times[-1],
        ended_s=times[-1] + 0.001,
        status=200,
        output_tokens=len(times),
        output_asked=64,
        cached_tokens=40 if number % 2 else 32,
        shared_tokens=48,
        finish_reason="length",
        token_source="usage_per_chunk",
        chunk_s=tuple(times),
        chunk_tokens=(1.0,) * len(times),
        **common,  # type: ignore[arg-type]
    )


def _audit(process: int, wall_s: float) -> ClientAudit:
    return ClientAudit(
        process=process,
        wall_s=wall_s,
        cpu_s=0.21 * wall_s,
        lag_ms_p50=0.08,
        lag_ms_p99=0.6,
        lag_ms_max=2.3,
        slip_ms_p50=0.3,
        slip_ms_p99=0.6,
        slip_ms_max=1.1,
        connections=40,
    )


def _samples(requests: Sequence[RequestRecord], end_s: float, slots: int, engines: int) -> list[EngineSample]:
    found = []
    for second in range(int(end_s) + 1):
        under_way = sum(
            (each.sent_s or each.due_s) <= second < (each.ended_s or each.due_s) for each in requests
        )
        for engine in range(engines):
            running = min(under_way, slots) // engines
            found.append(
                EngineSample(
                    at_s=second + 0.01 * engine,
                    replica=f"m-{engine}",
                    running=running,
                    waiting=max(under_way - slots, 0) // engines,
                    kv_cache_use=min(running * engines / slots * 0.96, 1.0),
                    preemptions=7 + max(under_way - slots, 0) // 9,
                    prefix_hit_tokens=second * 800,
                    prefix_query_tokens=second * 2000,
                )
            )
    return found


def closed_plan(users: int) -> RunPlan:
    return made_up_plan(arrivals=Closed(users))


def constant_plan(rate: float) -> RunPlan:
    return made_up_plan(rate, arrivals=Constant(rate))
