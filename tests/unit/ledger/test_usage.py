"""Usage: the same figures from daily sums and from single outcomes, whoever asks for whatever."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import func, select

from inferry.core.leases import Kind, period_of
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.ledger.adjustments import Adjustment, adjust
from inferry.ledger.database import Database
from inferry.ledger.outcome_rows import DAY_S, day_begin_wall_s, day_of
from inferry.ledger.outcome_store import OutcomeStore
from inferry.ledger.outcome_tables import daily_usage, outcomes
from inferry.ledger.retention import horizon_wall_s, prune
from inferry.ledger.usage import Dimension, Spent, UsageQuestion, spans_of, spent_in, usage

from .outcomes import NEW_YEAR_WALL_S, an_outcome


def store_all(database: Database, found: Iterable[Outcome]) -> None:
    OutcomeStore(database, "0" * 32).store("f" * 32, 0, 1, found)


def random_outcomes(seed: int, count: int, days: int) -> list[Outcome]:
    rng = random.Random(seed)
    found = []
    for number in range(count):
        known = rng.random() < 0.9
        found.append(
            an_outcome(
                f"{number}",
                received_wall_s=NEW_YEAR_WALL_S + rng.random() * days * DAY_S,
                tenant=rng.choice(["acme", "bolt", None]),
                key_id=rng.choice(["key_a", "key_b", None]),
                deployment=rng.choice(["chat", "code"]) if known else None,
                model=rng.choice(["chat", "alias"]),
                ending=rng.choice(list(Ending)),
                usage_from=rng.choice(list(UsageFrom)),
                prompt_tokens=rng.choice([None, rng.randrange(1000)]),
                completion_tokens=rng.randrange(1000),
                cost_nano=rng.randrange(10**12),
            )
        )
    return found


def group_of(outcome: Outcome, by: tuple[Dimension, ...]) -> tuple[str, ...]:
    values = {
        "day": day_of(outcome.received_wall_s),
        "tenant": outcome.tenant or "",
        "key": outcome.key_id or "",
        "deployment": outcome.deployment or "",
        "model": (outcome.model or "") if outcome.deployment else "",
    }
    return tuple(values[name] for name in by)


@pytest.mark.parametrize("seed", range(3))
def test_any_question_is_answered_as_by_hand(database: Database, seed: int) -> None:
    """For random groups, filters and ranges, the sums are those that one gets by adding up the outcomes."""
    rng = random.Random(seed)
    found = random_outcomes(seed, 300, 5)
    store_all(database, found)
    for _ in range(40):
        dimensions: list[Dimension] = ["day", "tenant", "key", "deployment", "model"]
        by = tuple(rng.sample(dimensions, rng.randrange(4)))
        begin, end = sorted(NEW_YEAR_WALL_S + rng.random() * 6 * DAY_S for _ in range(2))
        question = UsageQuestion(
            by=by,
            since_wall_s=rng.choice([None, begin, day_begin_wall_s(day_of(begin))]),
            until_wall_s=rng.choice([None, end, day_begin_wall_s(day_of(end)) + DAY_S]),
            tenant=rng.choice([None, None, "acme", ""]),
            deployment=rng.choice([None, None, "chat"]),
            model=rng.choice([None, None, "alias"]),
        )
        expected: dict[tuple[str, ...], list[int]] = {}
        for outcome in found:
            if question.since_wall_s is not None and outcome.received_wall_s < question.since_wall_s:
                continue
            if question.until_wall_s is not None and outcome.received_wall_s >= question.until_wall_s:
                continue
            if question.tenant is not None and (outcome.tenant or "") != question.tenant:
                continue
            if question.deployment is not None and outcome.deployment != question.deployment:
                continue
            if question.model is not None and group_of(outcome, ("model",)) != (question.model,):
                continue
            sums = expected.setdefault(group_of(outcome, by), [0] * 5)
            sums[0] += 1
            sums[1] += outcome.prompt_tokens or 0
            sums[2] += outcome.completion_tokens or 0
            sums[3] += outcome.cost_nano
            sums[4] += (outcome.completion_tokens or 0) if outcome.usage_from is UsageFrom.COUNTED else 0
        answer = usage(database, question)
        got = {
            row.group: [
                row.sums.requests, row.sums.prompt_tokens, row.sums.completion_tokens, row.sums.cost_nano,
                row.sums.counted_tokens,
            ]
            for row in answer.rows
        }  # fmt: skip
        assert got == expected, question
        assert answer.total.cost_nano == sum(sums[3] for sums in expected.values())


@pytest.mark.parametrize(
    ("since", "until", "kept", "days", "pieces"),
    [
        (0.0, 2.0, 0.0, (0.0, 2.0), []),
        (0.25, 2.5, 0.0, (1.0, 2.0), [(0.25, 1.0), (2.0, 2.5)]),
        (0.25, 0.75, 0.0, None, [(0.25, 0.75)]),
        (0.25, 1.0, 0.0, None, [(0.25, 1.0)]),
        (0.25, 1.5, 0.0, None, [(0.25, 1.0), (1.0, 1.5)]),
        (0.25, 3.5, 2.0, (0.0, 3.0), [(3.0, 3.5)]),
        (0.25, 0.75, 2.0, (0.0, 1.0), []),
        (-math.inf, 1.5, 0.0, (-math.inf, 1.0), [(1.0, 1.5)]),
        (0.5, math.inf, 0.0, (1.0, math.inf), [(0.5, 1.0)]),
    ],
)
def test_ranges_are_split_into_days_and_pieces(
    since: float, until: float, kept: float, days: Any, pieces: Any
) -> None:
    """In days: whole days apart from the pieces, without gap or overlap; pieces that are not kept become days."""
    spans = spans_of(since * DAY_S, until * DAY_S, kept * DAY_S)
    assert spans.days == (None if days is None else tuple(each * DAY_S for each in days))
    assert list(spans.pieces) == [(begin * DAY_S, end * DAY_S) for begin, end in pieces]


def test_figures_outlive_the_outcomes(database: Database) -> None:
    """After retention, whole days say the same as before, and a piece of a day that is gone says the whole day."""
    store_all(database, random_outcomes(1, 200, 5))
    now_wall_s = NEW_YEAR_WALL_S + 5 * DAY_S
    by_day = UsageQuestion(by=("day",))
    before = usage(database, by_day)
    kept_wall_s = horizon_wall_s(now_wall_s, 2)
    deleted = prune(database, kept_wall_s, batch=7)
    with database.read() as connection:
        assert connection.execute(select(func.min(outcomes.c.received_wall_s))).scalar_one() >= kept_wall_s
        left = connection.execute(select(func.count()).select_from(outcomes)).scalar_one()
    assert (deleted + left, deleted > 50) == (200, True)
    assert usage(database, by_day).rows == before.rows
    piece = UsageQuestion(
        by=("day",), since_wall_s=NEW_YEAR_WALL_S + 0.4 * DAY_S, until_wall_s=NEW_YEAR_WALL_S + 0.6 * DAY_S
    )
    answer = usage(database, piece)
    assert answer.rows == before.rows[:1]
    assert (answer.since_wall_s, answer.until_wall_s) == (NEW_YEAR_WALL_S, NEW_YEAR_WALL_S + DAY_S)


def test_budgets_begin_with_what_was_spent(database: Database) -> None:
    """Tokens and money of one UTC day or month, for each key, each tenant over all its keys, and each deployment."""
    now_wall_s = NEW_YEAR_WALL_S + 9.5 * DAY_S
    store_all(
        database,
        [
            an_outcome("today", received_wall_s=now_wall_s - 60.0),
            an_outcome("other key", received_wall_s=now_wall_s - 60.0, key_id="key_b"),
            an_outcome("this month", received_wall_s=now_wall_s - 2 * DAY_S),
            an_outcome("last month", received_wall_s=NEW_YEAR_WALL_S - 1.0),
            an_outcome("nobody's", received_wall_s=now_wall_s, tenant=None, key_id=None),
        ],
    )
    day, month = (period_of(kind, now_wall_s) for kind in (Kind.DAY, Kind.MONTH))
    assert spent_in(database, Kind.DAY, day) == {
        ("tenant", "acme"): Spent(34, 200),
        ("key", "key_a"): Spent(17, 100),
        ("key", "key_b"): Spent(17, 100),
        ("deployment", "chat"): Spent(51, 300),
    }
    assert spent_in(database, Kind.MONTH, month) == {
        ("tenant", "acme"): Spent(51, 300),
        ("key", "key_a"): Spent(34, 200),
        ("key", "key_b"): Spent(17, 100),
        ("deployment", "chat"): Spent(68, 400),
    }
    assert spent_in(database, Kind.MONTH, month - 1)["key", "key_a"] == Spent(17, 100)
    assert spent_in(database, Kind.DAY, day + 1) == {}
    assert spent_in(database, Kind.MONTH, month + 1) == {}


def test_a_correction_is_in_the_sums(database: Database) -> None:
    """A refund lowers the day's cost for its tenant, and the budget that begins with it."""
    now_wall_s = NEW_YEAR_WALL_S + 7200.0
    store_all(database, [an_outcome("a")])
    day = day_of(now_wall_s)
    refund = Adjustment(
        day, "bad answers", tenant="acme", key_id="key_a", deployment="chat", model="chat", cost_nano=-40
    )
    assert adjust(database, refund, now_wall_s) != adjust(database, refund, now_wall_s)
    (row,) = usage(database, UsageQuestion(by=("tenant",))).rows
    assert (row.sums.requests, row.sums.cost_nano) == (1, 20)
    today = period_of(Kind.DAY, now_wall_s)
    assert spent_in(database, Kind.DAY, today)["key", "key_a"].cost_nano == 20


def test_days_are_days() -> None:
    """A day's name and its begin are each other's inverse; what is no day is refused."""
    for wall_s in (0.0, NEW_YEAR_WALL_S, NEW_YEAR_WALL_S + 58 * DAY_S, 1_709_164_800.0):
        assert day_begin_wall_s(day_of(wall_s + 5.0)) == wall_s
    for wrong in ("2026-02-30", "2026-13-01", "yesterday", "2026-1-1"):
        with pytest.raises(ValueError):
            day_begin_wall_s(wrong)


def test_an_empty_store_has_no_rows(database: Database) -> None:
    """No requests: no groups, and a total of nothing."""
    answer = usage(database, UsageQuestion(since_wall_s=NEW_YEAR_WALL_S + 1.0))
    assert (answer.rows, answer.total.requests) == ([], 0)
    assert prune(database, NEW_YEAR_WALL_S) == 0
    with database.read() as connection:
        assert connection.execute(select(daily_usage)).all() == []
