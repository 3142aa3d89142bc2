"""The books beside the traffic: what engines count is kept, and what is wrong with journals is said once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inferry.cli.bookkeeping import Bookkeeping
from inferry.core.config_file import parse_text
from inferry.core.errors import InferryError, LedgerUnavailable
from inferry.core.leases import Bucket, Kind, Measure, bucket_id, period_of, period_start_s
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.ledger.database import default_url, open_database
from inferry.ledger.engine_counters import known_lives
from inferry.ledger.journal import JournalWriter
from inferry.ledger.reconcile import Counters
from inferry.testing.manual_clock import ManualClock

VIEW = ReplicaView(
    id="chat-0", deployment="chat", engine="simulated", simulated=True, state=ReplicaState.READY, endpoint=None,
    since_wall_s=0.0, restarts=0, tokens_generated=5, tokens_prompt=7, started_wall_s=100.0, counted_wall_s=110.0,
)  # fmt: skip


def books_in(home: Path, views: list[ReplicaView], clock: ManualClock | None = None) -> Bookkeeping:
    config = parse_text("deployments: {chat: {engine: simulated}}", Path("inferry.yaml"), {}).config
    return Bookkeeping(config, home, clock or ManualClock(), on_keys=lambda _: None, views=lambda: views)


async def test_what_engines_count_is_in_the_store_after_the_end(tmp_path: Path) -> None:
    """One life per engine process, from zero to its last counters; engines without counters have none."""
    books = books_in(tmp_path, [])
    await books.open()
    books.look_at(replace(VIEW, id="out-0", started_wall_s=None, counted_wall_s=None))
    books.look_at(VIEW)
    books.look_at(replace(VIEW, state=ReplicaState.FAILED, tokens_generated=9, counted_wall_s=120.0))
    books.look_at(
        replace(VIEW, started_wall_s=200.0, counted_wall_s=200.0, tokens_generated=0, tokens_prompt=0)
    )
    await books.close()
    database = open_database(default_url(tmp_path))
    first, second = known_lives(database)
    database.close()
    assert (first.first, first.last) == (Counters(100.0, 0, 0), Counters(120.0, 7, 9))
    assert (second.started_wall_s, second.last) == (200.0, Counters(200.0, 0, 0))


async def test_counters_wait_while_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails once costs none of them."""
    books = books_in(tmp_path, [])
    await books.open()
    books.look_at(VIEW)

    def fail(*_: object) -> None:
        raise LedgerUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr("inferry.cli.bookkeeping.note_lives", fail)
        await books.note_lives()
    await books.close()
    database = open_database(default_url(tmp_path))
    assert [life.replica_id for life in known_lives(database)] == ["chat-0"]
    database.close()


async def test_what_is_wrong_with_journals_is_logged_once(tmp_path: Path) -> None:
    """The log names each file and its trouble, and does not repeat at each load what stays as it was."""
    books = books_in(tmp_path, [])
    await books.open()
    (books.journal_folder / f"gateway-0.{'0' * 32}.journal").write_text("no outcome\n")
    (books.journal_folder / f"gateway-0.{'1' * 32}.journal").mkdir()
    with capture_logs() as logs:
        await books.load()
        await books.load()
    await books.close()
    damaged, unreadable = [entry["problem"] for entry in logs if entry["event"] == "journal_problem"]
    assert "1 corrupt line(s), kept in" in damaged
    assert "can't be loaded: Is a directory" in unreadable


async def test_a_budget_begins_with_its_own_period(tmp_path: Path) -> None:
    """Whoever counts says which day or month it is: a clock that is behind at midnight charges nothing of the old
    day to the new one. Deployments have budgets, too."""
    midnight_s = period_start_s(Kind.MONTH, period_of(Kind.MONTH, 1_767_225_600.0) + 1)
    books = books_in(tmp_path, [], ManualClock(wall_s=midnight_s - 0.05))
    await books.open()
    journal = JournalWriter(books.journal_folder, "gateway-0")
    journal.append(
        Outcome(
            id="a", request_id="a", route="/v1/chat/completions", ending=Ending.COMPLETED, status=200,
            received_wall_s=midnight_s - 3600.0, duration_s=1.0, deployment="chat", model="chat", tenant="acme",
            prompt_tokens=900, completion_tokens=99, usage_from=UsageFrom.ENGINE, cost_nano=7,
        )
    )  # fmt: skip
    journal.close()

    async def used(scope: str, owner: str, measure: Measure, kind: Kind, wall_s: float) -> int:
        return await books.used_before(
            Bucket(bucket_id(scope, owner, measure), kind, 1), period_of(kind, wall_s)
        )

    for kind, tokens, cost in (
        (Kind.DAY, Measure.TOKENS_PER_DAY, Measure.COST_PER_DAY),
        (Kind.MONTH, Measure.TOKENS_PER_MONTH, Measure.COST_PER_MONTH),
    ):
        for scope, owner in (("tenant", "acme"), ("deployment", "chat")):
            assert await used(scope, owner, tokens, kind, midnight_s - 1) == 999
            assert await used(scope, owner, cost, kind, midnight_s - 1) == 7
            assert await used(scope, owner, tokens, kind, midnight_s) == 0
            assert await used(scope, "other", tokens, kind, midnight_s - 1) == 0
    await books.close()


async def test_a_store_that_is_away_does_not_know_what_was_used(tmp_path: Path) -> None:
    """It is said by an InferryError, of whichever branch."""
    books = books_in(tmp_path, [])
    await books.open()
    for path in (tmp_path / "ledger").glob("ledger.sqlite*"):
        path.unlink()
    with capture_logs(), pytest.raises(InferryError):
        await books.used_before(Bucket("key:a:tokens_per_day", Kind.DAY, 1), 20454)
    with capture_logs():
        await books.close()
