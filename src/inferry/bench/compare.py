"""Is B better than A? For each figure the difference, how sure it is, and a word for it.

A difference counts when chance does not explain it and it is large enough to matter. Results of different
workloads are not compared unless that is asked for, and then it is said what differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from inferry.bench.block_intervals import blocks, mean_difference, percentile_difference
from inferry.bench.plan import RunPlan
from inferry.bench.records import Verdict
from inferry.bench.report_json import PerRequest, RunResult
from inferry.bench.statistics import Sample, share_difference
from inferry.core.errors import ConfigError

Word = Literal["better", "worse", "same", "no evidence", "too few"]

MATTERS = 0.02
"""Two runs of one server differ by as much, on machines that do nothing else; a smaller difference is `same`."""
MORE_FAILURES = 2.0
"""Times as many matter, be they few: a service that fails one request in a thousand, then one in a hundred, is worse."""
BEYOND_LEAST = 5
"""Values beyond a percentile, without which it says nothing: 500 requests for a p99."""
SLICES = 10
"""Of a run, for the variation of its throughput."""
UNLIKE_SHARE = 0.1
"""By which tokens per request may differ, and where no plan tells the workload requests per second."""

LATENCIES = ("ttft_ms", "ttft_from_due_ms", "itl_ms", "stall_ms", "e2e_ms")
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_SAME_LOAD = (
    "arrivals", "workload", "duration_s", "requests_max", "warmup_s", "timeout_s", "abandon_share", "abandon_after_s",
    "slo",
)  # fmt: skip
_SAME_REQUEST = ("api", "stream", "ignore_eos", "extra")
_PROMPTS_NOTE = "prompts: "
"""What a run's note begins with that says whose tokenizer its prompts were counted with."""


class Difference(Struct, frozen=True, kw_only=True):
    """Of one figure, B less A. A latency is infinite where failures are."""

    figure: str
    """`ttft_ms p99`, `goodput`, `failed`, `output_tokens_per_s`."""
    a: float | None
    b: float | None
    low: float | None = None
    """The true difference lies between `low` and `high` with 95 % confidence; None: no bound on that side."""
    high: float | None = None
    word: Word

    @property
    def change(self) -> float | None:
        """As a share of A; None where there is none, or an infinite one."""
        if not self.a or self.b is None or math.isinf(self.a) or math.isinf(self.b):
            return None
        return (self.b - self.a) / self.a


class Comparison(Struct, frozen=True, kw_only=True):
    differences: tuple[Difference, ...]
    unlike: tuple[str, ...] = ()
    """In what the workloads differ, if they were compared anyway."""
    cautions: tuple[str, ...] = ()
    invalid: tuple[Literal["A", "B"], ...] = ()
    """Sides of which a run is invalid, or has measured nothing: then the words say nothing about the servers."""

    @property
    def worse(self) -> tuple[str, ...]:
        """Figures by which B is worse: what a CI would fail for."""
        return tuple(each.figure for each in self.differences if each.word == "worse")

    @property
    def better(self) -> tuple[str, ...]:
        return tuple(each.figure for each in self.differences if each.word == "better")


def compare(a: Sequence[RunResult], b: Sequence[RunResult], *, anyway: bool = False) -> Comparison:
    """Of one or several runs of each. ConfigError when workloads differ, unless `anyway`; or without requests."""
    different = unlike([*a, *b])
    if different and not anyway:
        raise ConfigError(
            f"The workloads differ, so the results say nothing about the servers: {'; '.join(different)}. "
            "Run both with the same load, or compare them anyway."
        )
    for name, runs in (("A", a), ("B", b)):
        if any(run.per_request is None for run in runs):
            raise ConfigError(f"{name} has no figures of single requests, so nobody can say what is chance.")
    differences = [each for name in LATENCIES for each in _latency(name, a, b)]
    differences += [
        _share("goodput", a, b, lambda run: (run.goodput.good, run.goodput.of), more_is_better=True),
        _failures(a, b),
        _throughput(a, b),
    ]
    return Comparison(
        differences=tuple(differences),
        unlike=tuple(different),
        cautions=tuple(_cautions(a, b)),
        invalid=tuple(_invalid(a, b)),
    )


# --- may they be compared -----------------------------------------------------------------------------


def unlike(runs: Sequence[RunResult]) -> list[str]:
    """In what the runs' workloads differ, in words. Whom they asked may differ: that is what is compared."""
    plans = [run.plan for run in runs]
    known = [plan for plan in plans if plan is not None]
    if len(known) == len(plans):
        return _unlike_plans(known)
    found = []
    for name, of_each in (
        ("input tokens per request", [_tokens("input", [run]) for run in runs]),
        ("output tokens per request", [_tokens("output", [run]) for run in runs]),
        ("requests per second", [run.requests_per_s.due for run in runs]),
    ):
        values = [value for value in of_each if value is not None]
        if values and _is_unlike(values):
            found.append(f"{name}: {min(values):.4g} and {max(values):.4g}")
    return found


def _tokens(kind: Literal["input", "output"], runs: Sequence[RunResult]) -> float | None:
    """Per request that was answered whole."""
    answered = sum(run.requests.ok for run in runs)
    return sum(getattr(run.tokens, kind) for run in runs) / answered if answered else None


def _is_unlike(values: Sequence[float]) -> bool:
    return max(values) > min(values) * (1 + UNLIKE_SHARE)


def _unlike_plans(plans: Sequence[RunPlan]) -> list[str]:
    first = plans[0]
    found = []
    for plan in plans[1:]:
        for owner, names in (("", _SAME_LOAD), ("target", _SAME_REQUEST)):
            one, other = (first.target, plan.target) if owner else (first, plan)
            for name in names:
                if getattr(one, name) != getattr(other, name):
                    found.append(f"{name}: {_words(getattr(one, name))} and {_words(getattr(other, name))}")
    return list(dict.fromkeys(found))


def _words(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _invalid(a: Sequence[RunResult], b: Sequence[RunResult]) -> Iterator[Literal["A", "B"]]:
    sides: tuple[tuple[Literal["A", "B"], Sequence[RunResult]], ...] = (("A", a), ("B", b))
    for name, runs in sides:
        if any(run.verdict == "invalid" or not run.requests.due for run in runs):
            yield name


def _cautions(a: Sequence[RunResult], b: Sequence[RunResult]) -> list[str]:
    found = []
    for name, runs in (("A", a), ("B", b)):
        for verdict in ("invalid", "suspect"):
            reasons = [reason for run in runs if run.verdict == verdict for reason in run.reasons]
            if reasons:
                found.append(f"{name} is {verdict}: {reasons[0]}")
    kinds: tuple[Literal["input", "output"], ...] = ("input", "output")
    for kind in kinds:
        of_a, of_b = _tokens(kind, a), _tokens(kind, b)
        if of_a is not None and of_b is not None and _is_unlike([of_a, of_b]):
            found.append(
                f"{kind} tokens per request were {of_a:.4g} of A and {of_b:.4g} of B: they did not do the same work"
            )
    counted = list(dict.fromkeys(source for run in [*a, *b] if (source := _prompts(run))))
    if len(counted) > 1:
        found.append(f"prompts were not counted alike: {' / '.join(counted)}")
    if min(len(a), len(b)) == 1:
        found.append(
            "one run on a side: how much runs differ from each other is not in the intervals; repeat both, in turns"
        )
    return found


def _prompts(run: RunResult) -> str:
    """Whose tokenizer its prompts were counted with; empty: not told."""
    told = [note for note in run.notes if note.startswith(_PROMPTS_NOTE)]
    return told[0].removeprefix(_PROMPTS_NOTE) if told else ""


# --- the figures --------------------------------------------------------------------------------------


def _latency(name: str, a: Sequence[RunResult], b: Sequence[RunResult]) -> list[Difference]:
    of_a, of_b = _values(name, a), _values(name, b)
    all_a, all_b = [v for run in of_a for v in run], [v for run in of_b for v in run]
    count = min(len(all_a), len(all_b))
    if not count:
        return []
    cut_a = [block for run in of_a for block in blocks(run)]
    cut_b = [block for run in of_b for block in blocks(run)]
    sample_a, sample_b = Sample(all_a), Sample(all_b)
    found = []
    for label, share in SHARES.items():
        one, other = sample_a.percentile(share), sample_b.percentile(share)
        figure = f"{name} {label}"
        if count * (1 - share) < BEYOND_LEAST - 1e-9:
            found.append(Difference(figure=figure, a=one, b=other, word="too few"))
            continue
        low, high = percentile_difference(cut_a, cut_b, share)
        assert one is not None
        assert other is not None
        word = _word(
            low,
            high,
            one,
            other,
            matters=MATTERS * one if math.isfinite(one) else 0.0,
            more_is_better=False,
            # A stall is the worst of many gaps, so it is moved by the worst of many looks.
            error=_lag_ms("max" if name == "stall_ms" else label, [*a, *b]),
        )
        found.append(Difference(figure=figure, a=one, b=other, low=_bound(low), high=_bound(high), word=word))
    return found


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _values(name: str, runs: Sequence[RunResult]) -> list[list[float]]:
    """In the order of time. Failures are infinitely late: else a server that fails its slow requests would win.

    Of gaps and stalls there are only those of whole answers.
    """
    to_the_end = name not in ("itl_ms", "stall_ms")
    found = []
    for run in runs:
        values = []
        if run.per_request:
            of_each = zip(getattr(run.per_request, name), run.per_request.verdict, strict=True)
            for value, verdict in of_each:
                if verdict == Verdict.OK and value is not None:
                    values.append(value)
                elif to_the_end and verdict not in (Verdict.OK, Verdict.ABANDONED):
                    values.append(math.inf)
        found.append(values)
    return found


def _word(
    low: float, high: float, a: float, b: float, *, matters: float, more_is_better: bool, error: float = 0.0
) -> Word:
    """`matters`: by how much they must differ; `error`: what the clients themselves may have made of it."""
    if -matters <= low and high <= matters:
        return "same"
    if (low > 0 or high < 0) and abs(b - a) >= max(matters, error):
        return "better" if (low > 0) == more_is_better else "worse"
    return "no evidence"


def _lag_ms(label: str, runs: Sequence[RunResult]) -> float:
    """By how much a late client may have moved such a percentile; 0 where nobody says."""
    name = {"p50": "lag_ms_p50", "max": "lag_ms_max"}.get(label, "lag_ms_p99")
    return max((getattr(audit, name) for run in runs for audit in run.audits), default=0.0)


def _share(
    figure: str,
    a: Sequence[RunResult],
    b: Sequence[RunResult],
    counted: Callable[[RunResult], tuple[int, int]],
    *,
    more_is_better: bool,
) -> Difference:
    (good_a, of_a), (good_b, of_b) = (
        (sum(counted(run)[0] for run in runs), sum(counted(run)[1] for run in runs)) for runs in (a, b)
    )
    if not of_a or not of_b:
        return Difference(figure=figure, a=None, b=None, word="too few")
    low, high = share_difference(good_a, of_a, good_b, of_b)
    before, after = good_a / of_a, good_b / of_b
    # Two points of a share matter, of however few failures.
    word = _word(low, high, before, after, matters=MATTERS, more_is_better=more_is_better)
    return Difference(figure=figure, a=before, b=after, low=low, high=high, word=word)


def _failures(a: Sequence[RunResult], b: Sequence[RunResult]) -> Difference:
    """Two points matter, and so do twice as many: of few failures the one, of many the other."""
    found = _share("failed", a, b, lambda run: (run.requests.failed, run.requests.due), more_is_better=False)
    if found.a is None or found.b is None or found.low is None or found.high is None:
        return found
    word: Word = "no evidence"
    if -_fewer(found.a) < found.low and found.high < _more(found.a):
        word = "same"
    elif found.low > 0 and found.b >= found.a + _more(found.a):
        word = "worse"
    elif found.high < 0 and found.b <= found.a - _fewer(found.a):
        word = "better"
    return msgspec.structs.replace(found, word=word)


def _more(share: float) -> float:
    """By how much a larger share of failures is enough larger to matter."""
    return min(MATTERS, share * (MORE_FAILURES - 1))


def _fewer(share: float) -> float:
    return min(MATTERS, share * (1 - 1 / MORE_FAILURES))


def _throughput(a: Sequence[RunResult], b: Sequence[RunResult]) -> Difference:
    figure = "output_tokens_per_s"
    rates_a, rates_b = (
        [run.output_tokens_per_s for run in runs if run.output_tokens_per_s is not None] for runs in (a, b)
    )
    slices_a, slices_b = (
        [rate for run in runs if run.per_request for rate in _slices(run.per_request)] for runs in (a, b)
    )
    if not rates_a or not rates_b or not slices_a or not slices_b:
        return Difference(figure=figure, a=None, b=None, word="too few")
    before, after = sum(rates_a) / len(rates_a), sum(rates_b) / len(rates_b)
    low, high = mean_difference(slices_a, slices_b)
    # Slices count tokens where their request ended, so their mean is a little off; their spread is what is wanted.
    shift = (after - before) - (sum(slices_b) / len(slices_b) - sum(slices_a) / len(slices_a))
    low, high = low + shift, high + shift
    word = _word(low, high, before, after, matters=MATTERS * before, more_is_better=True)
    return Difference(figure=figure, a=before, b=after, low=low, high=high, word=word)


def _slices(kept: PerRequest) -> list[float]:
    """Tokens per second of each slice of the time in which requests were due."""
    ends = [
        (due + late / 1000, tokens)
        for due, late, tokens, verdict in zip(
            kept.due_s, kept.e2e_from_due_ms, kept.output_tokens, kept.verdict, strict=True
        )
        if late is not None and verdict == "ok"
    ]
    if len(ends) < SLICES:
        return []
    first, width = kept.due_s[0], (kept.due_s[-1] - kept.due_s[0]) / SLICES
    if width <= 0:
        return []
    tokens_of = [0.0] * SLICES
    for end, tokens in ends:
        place = int((end - first) / width)
        if place < SLICES:
            tokens_of[place] += tokens
    return [tokens / width for tokens in tokens_of]
