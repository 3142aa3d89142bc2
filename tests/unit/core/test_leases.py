"""The UTC calendar of budgets, and bucket ids."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from inferry.core.leases import (
    KIND_OF,
    Bucket,
    Grant,
    Kind,
    Measure,
    Return,
    Times,
    Wish,
    bucket_id,
    owner_of,
    period_of,
    period_start_s,
)
from inferry.core.limits import Limits


def test_days_and_months_are_those_of_the_calendar() -> None:
    """Every day from 1970 to 2100: its number, its month and where both begin, as the standard library has them."""
    when = datetime(1970, 1, 1, tzinfo=UTC)
    while when.year < 2100:
        wall_s = when.timestamp() + 86399.5
        day, month = period_of(Kind.DAY, wall_s), period_of(Kind.MONTH, wall_s)
        assert period_start_s(Kind.DAY, day) == when.timestamp()
        assert month == 12 * when.year + when.month - 1
        assert period_start_s(Kind.MONTH, month) == when.replace(day=1).timestamp()
        when += timedelta(days=1)


@pytest.mark.parametrize("measure", Measure)
def test_each_measure_is_a_key_of_limits(measure: Measure) -> None:
    """What is counted is called in buckets as it is in the file, and has a way to come back."""
    assert measure.value in Limits.model_fields
    assert measure in KIND_OF


@pytest.mark.parametrize("owner", ["key_1", "acme", "a:b", "deployment:x"])
def test_an_id_tells_its_owner(owner: str) -> None:
    """Scope, owner and measure come out of a bucket's id as they went in, also with colons."""
    id_ = bucket_id("tenant", owner, Measure.COST_PER_DAY)
    assert owner_of(id_) == ("tenant", owner, Measure.COST_PER_DAY)


def test_messages_are_small_and_can_be_pickled() -> None:
    """They cross a process border as they are."""
    bucket = Bucket("key:key_1:requests_per_minute", Kind.WINDOW, 60)
    for message in (Wish(bucket, 1, 1, 1, 9), Return(bucket, 5, 2), Grant(bucket.id, 3, 5, 1.0), Times()):
        assert pickle.loads(pickle.dumps(message)) == message
        assert len(pickle.dumps(message)) < 300
