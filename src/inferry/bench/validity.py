"""Whether a run's figures are the server's, or the client was the limit.

`judge` compares what is known of the client with what was measured. A client that was short of CPU is called
invalid, with the reason: its figures may look well and be wrong.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from inferry.bench.plan import Closed, RunPlan
from inferry.bench.records import Calibration, ClientAudit, RequestRecord, RunRecord, Verdict
from inferry.bench.summary import Summary

Judgement = Literal["valid", "suspect", "invalid"]

DOUBT_MS, DOUBT_SHARE = 1.0, 0.05
"""What the client adds may be 1 ms or 5 % of a latency. Finer differences are seldom asked about, and on one
machine two runs of the same differ by as much."""
WRONG_MS, WRONG_SHARE = 5.0, 0.2
"""Beyond 5 ms and a fifth, the figure is no longer about the server."""
STALLED_MS = 100.0
"""Where no answer was whole there is no latency to compare with. A client that looks up so late may itself be why."""
BUSY_DOUBT, BUSY_WRONG = 0.8, 0.95
"""Of one core, per process. What comes to a place that is busy for a share r of the time waits for r / (1 - r)
turns on average (M/M/1): 4 at 0.8, 19 at 0.95."""
RATE_DOUBT, RATE_WRONG = 0.02, 0.05
"""By how much the achieved rate may fall short of what was due, or a closed loop's users at work of all its users."""
UNSENT_WRONG = 0.01
"""One that was not sent is enough for doubt. At 1 % of them, the 99th percentile is made of what is missing."""
CLOCK_SLACK_S = 1e-4
"""By which times of one request may be out of order: stamps of one clock, taken at different places of the client."""
LOCAL_FAILURES = tuple(
    os.strerror(number).lower()
    for number in (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
)
"""Why a connection fails when it is this machine that has no more files, ports or memory."""


class Validity(Struct, frozen=True, kw_only=True):
    """What the figures are worth."""

    verdict: Judgement
    reasons: tuple[str, ...] = ()
    """For people, what is worst first; none of a valid run."""


class _Finding(Struct, frozen=True):
    verdict: Judgement
    reason: str


def judge(
    plan: RunPlan, record: RunRecord, summary: Summary, calibration: Calibration | None = None
) -> Validity:
    """By all that is known of the client; the server's own failures make no run invalid."""
    findings = [
        *_nothing_measured(summary),
        *_unsent(summary),
        *_resent(summary),
        *_connections(record),
        *_processes(plan, record.audits),
        *_lag(record.audits, summary),
        *_stalls(record.audits, summary),
        *_idle_users(record.audits),
        *_slip(plan, record.audits, summary),
        *_rate(plan, summary),
        *_clock(record.requests),
        *_calibrated(calibration, summary),
        *_ended_early(record),
        *_moving(summary),
        *_uncounted(summary),
    ]
    findings.sort(key=lambda finding: finding.verdict != "invalid")
    return Validity(
        verdict=findings[0].verdict if findings else "valid", reasons=tuple(each.reason for each in findings)
    )


# --- was anything asked -------------------------------------------------------------------------------


def _nothing_measured(summary: Summary) -> Iterator[_Finding]:
    if summary.requests.due == 0:
        yield _Finding(
            "invalid", "no request was due after the warm-up: a longer duration measures something"
        )
    elif summary.requests.sent == 0:
        yield _Finding("invalid", "no request was sent")


def _unsent(summary: Summary) -> Iterator[_Finding]:
    unsent, due = summary.requests.unsent, summary.requests.due
    if unsent:
        yield _Finding(
            "invalid" if unsent > UNSENT_WRONG * due else "suspect",
            f"the client did not get to {unsent} of {due} requests: more processes, a lower rate or a larger limit "
            "of open files (ulimit -n) helps",
        )


def _resent(summary: Summary) -> Iterator[_Finding]:
    resent = summary.requests.resent
    if resent:
        yield _Finding(
            "suspect",
            f"{resent} of {summary.requests.due} requests met a connection that the server was just closing, and were "
            "sent twice: either it closes what is idle for a very short time, or it lost them",
        )


def _connections(record: RunRecord) -> Iterator[_Finding]:
    local = [
        request.reason
        for request in record.requests
        if request.verdict in (Verdict.CONNECT, Verdict.UNSENT)
        and any(words in request.reason.lower() for words in LOCAL_FAILURES)
    ]
    if local:
        yield _Finding(
            "invalid",
            f"{len(local)} connections failed on the client's machine, not at the server: {local[0]}",
        )


def _ended_early(record: RunRecord) -> Iterator[_Finding]:
    if record.stopped_early:
        yield _Finding("suspect", "the run was stopped before its time")


# --- was the client quick enough ----------------------------------------------------------------------


def _processes(plan: RunPlan, audits: tuple[ClientAudit, ...]) -> Iterator[_Finding]:
    if len(audits) < plan.processes:
        yield _Finding(
            "invalid", f"only {len(audits)} of the client's {plan.processes} processes said how they did"
        )
    busiest = max(audits, key=_busy, default=None)
    if busiest and _busy(busiest) > BUSY_DOUBT:
        yield _Finding(
            "invalid" if _busy(busiest) > BUSY_WRONG else "suspect",
            f"process {busiest.process} of the client used {_busy(busiest):.0%} of a core: what came from the server "
            "waited for the client; more processes or a lower rate helps",
        )


def _busy(audit: ClientAudit) -> float:
    return audit.cpu_s / audit.wall_s if audit.wall_s > 0 else 0.0


def _lag(audits: tuple[ClientAudit, ...], summary: Summary) -> Iterator[_Finding]:
    if not audits:
        return
    findings = []
    for name, lag_ms in (
        ("p50", max(audit.lag_ms_p50 for audit in audits)),
        ("p99", max(audit.lag_ms_p99 for audit in audits)),
    ):
        verdict, figure = _weighed(lag_ms, _latencies(summary, name))
        if verdict:
            words = (
                f"the client looked at what had come {lag_ms:.3g} ms late ({name} of its event loop's lag), and {figure}: "
                "its machine has too little CPU for this load"
            )
            findings.append(_Finding(verdict, words))
    # Both say the same; the harder one is enough.
    yield from sorted(findings, key=lambda finding: finding.verdict != "invalid")[:1]


def _stalls(audits: tuple[ClientAudit, ...], summary: Summary) -> Iterator[_Finding]:
    """A stream's longest gap is a maximum: one rare stop of the client is in those of all streams that it meets.

    No more than a doubt, since nobody knows how many it met; and only of what would spoil a figure that all share.
    """
    lag_ms = max((audit.lag_ms_max for audit in audits), default=0.0)
    stalls = [("longest gap of a stream", name, getattr(summary.stall_ms, name)) for name in ("p50", "p90")]
    if not any(value for _, _, value in stalls):
        return
    verdict, figure = _weighed(lag_ms, stalls)
    if verdict == "invalid":
        yield _Finding(
            "suspect",
            f"the client's event loop stood still for up to {lag_ms:.3g} ms, and {figure}: some of the longest gaps may "
            "be the client's own",
        )


def _slip(plan: RunPlan, audits: tuple[ClientAudit, ...], summary: Summary) -> Iterator[_Finding]:
    if not audits or isinstance(plan.arrivals, Closed):
        return
    slip_ms = max(audit.slip_ms_p99 for audit in audits)
    verdict, figure = _weighed(
        slip_ms, [("time to first token", "p99", summary.ttft_from_due_ms.p99 or summary.e2e_from_due_ms.p99)]
    )
    if verdict:
        yield _Finding(
            verdict,
            f"the client sent up to {slip_ms:.3g} ms late (p99), and {figure}: the load came otherwise than planned",
        )


def _idle_users(audits: tuple[ClientAudit, ...]) -> Iterator[_Finding]:
    idlest = max(audits, key=lambda audit: audit.idle_share, default=None)
    if idlest and idlest.idle_share > RATE_DOUBT:
        yield _Finding(
            "invalid" if idlest.idle_share > RATE_WRONG else "suspect",
            f"users of process {idlest.process} of the client waited for {idlest.idle_share:.0%} of their time until "
            "a request was made for them: there was less load than asked for; more processes or shorter prompts help",
        )


def _latencies(summary: Summary, name: str) -> list[tuple[str, str, float | None]]:
    return [
        ("time to first token", name, getattr(summary.ttft_ms, name)),
        ("gap between tokens", name, getattr(summary.itl_ms, name)),
        ("end-to-end latency", name, getattr(summary.e2e_ms, name)),
    ]


def _weighed(error_ms: float, latencies: list[tuple[str, str, float | None]]) -> tuple[Judgement | None, str]:
    """The hardest verdict on an error that is in all these latencies, and the words for the one that it spoils most."""
    known = [
        (value, f"the {name} of the {what} is {value:.3g} ms") for what, name, value in latencies if value
    ]
    if not known:
        return ("invalid" if error_ms > STALLED_MS else None), "no answer was whole"
    smallest, words = min(known)
    if error_ms > max(WRONG_MS, WRONG_SHARE * smallest):
        return "invalid", words
    if error_ms > max(DOUBT_MS, DOUBT_SHARE * smallest):
        return "suspect", words
    return None, words


def _rate(plan: RunPlan, summary: Summary) -> Iterator[_Finding]:
    rates = summary.requests_per_s
    if isinstance(plan.arrivals, Closed) or rates.due is None or rates.sent is None:
        return
    short = 1 - rates.sent / rates.due
    if short > RATE_DOUBT:
        yield _Finding(
            "invalid" if short > RATE_WRONG else "suspect",
            f"{rates.sent:.4g} requests/s were sent where {rates.due:.4g} were due",
        )


def _calibrated(calibration: Calibration | None, summary: Summary) -> Iterator[_Finding]:
    if calibration is None:
        return
    verdict, figure = _weighed(calibration.overhead_ms_p50, [_latencies(summary, "p50")[0]])
    if verdict:
        yield _Finding(
            verdict,
            f"the client alone takes {calibration.overhead_ms_p50:.3g} ms against a server that answers at once, and "
            f"{figure}",
        )
    due = summary.requests_per_s.due
    if due is not None and due > calibration.requests_per_s_max:
        # No more than a doubt: client and that server shared the machine, so alone the client does more.
        yield _Finding(
            "suspect",
            f"beside a server that answers at once the client did no more than {calibration.requests_per_s_max:.4g} "
            f"requests/s, and {due:.4g} were due",
        )


# --- do the times make sense --------------------------------------------------------------------------


def _clock(requests: tuple[RequestRecord, ...]) -> Iterator[_Finding]:
    wrong = [request.number for request in requests if not _in_order(request)]
    if wrong:
        yield _Finding(
            "invalid",
            f"the times of {len(wrong)} requests run backwards, for the first time in request {wrong[0]}",
        )


def _in_order(request: RequestRecord) -> bool:
    marks = (
        request.due_s,
        request.sent_s,
        request.first_byte_s,
        request.first_token_s,
        request.last_token_s,
        request.ended_s,
    )
    known = [mark for mark in marks if mark is not None]
    return all(later >= earlier - CLOCK_SLACK_S for earlier, later in pairwise(known))


def _moving(summary: Summary) -> Iterator[_Finding]:
    if summary.window and summary.window.stationary is False:
        yield _Finding("suspect", summary.window.reason)


# --- are tokens tokens --------------------------------------------------------------------------------


def _uncounted(summary: Summary) -> Iterator[_Finding]:
    uncounted = summary.tokens.sources.get("chunks", 0)
    if uncounted:
        yield _Finding(
            "suspect",
            f"nobody counts the tokens of {uncounted} of {summary.requests.ok} answers, and each chunk was taken for "
            "one: figures per token are per chunk",
        )
