"""The loader: whatever dies whenever, each outcome is in the store once, and the sums are those of the outcomes."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event, func, insert, select

from inferry.core.errors import ConfigError, LedgerUnavailable
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.ledger.database import Database, open_database
from inferry.ledger.inflight_book import InflightBook
from inferry.ledger.journal import JournalWriter
from inferry.ledger.loader import Loader, LoadReport, folder_id
from inferry.ledger.locked_file import UNBORN, file_id, hold_if_free
from inferry.ledger.outcome_rows import TOKENS_MAX, daily_sums, row_of
from inferry.ledger.outcome_store import OffsetMoved, OutcomeStore
from inferry.ledger.outcome_tables import DIMENSIONS, daily_usage, journal_offsets, outcomes
from inferry.ledger.prices import COST_NANO_MAX
from inferry.ledger.request_log import RequestLog

from .inflight import a_begun
from .outcomes import NEW_YEAR_WALL_S, an_outcome


@pytest.fixture
def store_url(empty_url: str) -> str:
    """A prepared store of each kind in turn, which is opened anew again and again."""
    database = open_database(empty_url)
    database.migrate()
    database.close()
    return empty_url


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """A folder that the store's file does not lie in."""
    folder = tmp_path / "journals"
    folder.mkdir()
    return folder


def write_journal(folder: Path, *found: Outcome, close: bool = True) -> JournalWriter:
    writer = JournalWriter(folder, "gateway-0")
    assert all(writer.append(outcome) for outcome in found)
    if close:
        writer.close()
    return writer


def stored(database: Database) -> dict[str, tuple[str, int | None]]:
    """Each outcome's ending and completion tokens. Also checks that the daily sums are those of the outcomes."""
    with database.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(outcomes))]
        sums = [dict(row._mapping) for row in connection.execute(select(daily_usage))]
    assert sorted(sums, key=lambda row: [row[name] for name in DIMENSIONS]) == daily_sums(rows)
    return {row["id"]: (row["ending"], row["completion_tokens"] or 0) for row in rows}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("id", "store", "loader.lock"))


def offsets(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(journal_offsets)).scalar_one()


def test_outcomes_are_loaded_with_all_their_fields(database: Database, journals: Path) -> None:
    """Every field of an outcome is a column, and comes out as it went in."""
    outcome = an_outcome(
        "a", queue_s=0.25, ttft_s=0.5, attempts=2, resumes=1, reasoning_tokens=3, stream=True,
        finish_reason="stop", error_code="x", filtered_by="rule",
    )  # fmt: skip
    write_journal(journals, outcome)
    loader = Loader(database, journals)
    assert loader.load_once().loaded == 1
    with database.read() as connection:
        (row,) = [dict(row._mapping) for row in connection.execute(select(outcomes))]
    assert row == row_of(outcome, loader.source)
    assert set(row) - {"source"} == set(Outcome.__struct_fields__)


def test_a_live_journal_is_followed(database: Database, journals: Path) -> None:
    """Lines are loaded as they come, each once, while their writer lives; its file stays."""
    writer = write_journal(journals, an_outcome("a"), close=False)
    loader = Loader(database, journals)
    assert loader.load_once().loaded == 1
    writer.append(an_outcome("b"))
    assert loader.load_once().loaded == 1
    report = loader.load_once()
    assert (report.loaded, report.known, report.finished) == (0, 0, 0)
    assert set(stored(database)) == {"a", "b"}
    assert leftovers(journals) == [writer.path.name]
    writer.close()


def test_a_finished_journal_is_deleted(database: Database, journals: Path) -> None:
    """What is wholly in the store leaves nothing on the disk, and no offset either."""
    write_journal(journals, an_outcome("a"))
    assert Loader(database, journals).load_once().finished == 1
    assert (leftovers(journals), offsets(database)) == ([], 0)


def test_an_idle_folder_costs_no_statement(database: Database, journals: Path) -> None:
    """Twice a second is only cheap if nothing is asked of the store when nothing was written."""
    writer = write_journal(journals, an_outcome("a"), close=False)
    loader = Loader(database, journals)
    loader.load_once()
    statements: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *about: statements.append(about[2]))
    loader.load_once()
    assert statements == []
    writer.close()


def test_an_id_counts_once(database: Database, journals: Path) -> None:
    """The same id again, in one piece, in another file or another folder, changes neither outcomes nor sums."""
    write_journal(journals / "one", an_outcome("a"), an_outcome("a", completion_tokens=99))
    write_journal(journals / "one", an_outcome("a"), an_outcome("b"))
    write_journal(journals / "two", an_outcome("b"), an_outcome("c"))
    first, second = Loader(database, journals / "one"), Loader(database, journals / "two")
    reports = [first.load_once(), second.load_once()]
    assert sum(report.loaded for report in reports) == 3
    assert sum(report.known for report in reports) == 3
    assert set(stored(database)) == {"a", "b", "c"}


def test_a_restored_copy_of_a_journal_changes_nothing(database: Database, journals: Path) -> None:
    """A file that comes back, say from a backup, is loaded again from its start, to no effect."""
    writer = write_journal(journals, an_outcome("a"))
    copy = writer.path.read_bytes()
    loader = Loader(database, journals)
    loader.load_once()
    before = stored(database)
    writer.path.write_bytes(copy)
    report = loader.load_once()
    assert (report.loaded, report.known, report.finished) == (0, 1, 1)
    assert stored(database) == before


def test_corrupt_lines_are_kept_apart(database: Database, journals: Path) -> None:
    """A damaged line is counted and kept in a file of its own; the others are loaded, and the journal deleted."""
    writer = write_journal(journals, an_outcome("a"), close=False)
    with writer.path.open("ab") as file:
        file.write(b'{"id": 7}\n')
    writer.append(an_outcome("b"))
    with writer.path.open("ab") as file:
        file.write(b'{"id":"torn')
    writer.close()
    loader = Loader(database, journals)
    assert loader.load_once().corrupt == 2
    assert set(stored(database)) == {"a", "b"}
    kept = b"".join((journals / name).read_bytes() for name in leftovers(journals))
    assert kept == b'{"id": 7}\n{"id":"torn\n'
    assert loader.load_once().corrupt == 0


def test_hostile_texts_and_numbers_stop_nothing(database: Database, journals: Path) -> None:
    """What clients and engines put into an outcome can't make a row that the store refuses, or sums that overflow."""
    write_journal(
        journals,
        an_outcome("nul", request_id="a\0b", model="m" * 100_000),
        an_outcome("many", completion_tokens=2**62, cost_nano=2**62, attempts=2**40),
        an_outcome("less", prompt_tokens=-5, received_wall_s=-1.0),
        an_outcome("late", received_wall_s=1e300),
        *(an_outcome(f"n{number}", completion_tokens=2**62, cost_nano=2**62) for number in range(50)),
    )
    assert Loader(database, journals).load_once().loaded == 54
    found = stored(database)
    assert found["many"][1] == TOKENS_MAX
    with database.read() as connection:
        assert connection.execute(select(func.max(outcomes.c.cost_nano))).scalar() == COST_NANO_MAX
        assert connection.execute(select(func.min(outcomes.c.prompt_tokens))).scalar() == 0


def test_sums_go_by_the_day_received(database: Database, journals: Path) -> None:
    """Days are UTC, and requests are counted by ending, tokens by whether an engine's usage stands behind them."""
    write_journal(
        journals,
        an_outcome("a", received_wall_s=NEW_YEAR_WALL_S - 0.001),
        an_outcome("b", received_wall_s=NEW_YEAR_WALL_S),
        an_outcome("c", ending=Ending.CANCELLED, usage_from=UsageFrom.COUNTED, completion_tokens=3),
        an_outcome("d", ending=Ending.REJECTED, deployment=None, model="made-up", tenant=None, key_id=None),
    )
    Loader(database, journals).load_once()
    with database.read() as connection:
        rows = connection.execute(select(daily_usage).order_by(*(daily_usage.c[name] for name in DIMENSIONS)))
        found = [
            (row.day, row.tenant, row.model, row.completed, row.cancelled, row.counted_tokens) for row in rows
        ]
    assert found == [
        ("2025-12-31", "acme", "chat", 1, 0, 0),
        ("2026-01-01", "", "", 0, 0, 0),
        ("2026-01-01", "acme", "chat", 1, 1, 3),
    ]


# --- gateways that die -------------------------------------------------------------------------------------


def test_a_dead_gateways_requests_are_recovered(database: Database, journals: Path) -> None:
    """What was under way becomes failed outcomes with the tokens relayed, once; the book is deleted."""
    both = RequestLog(journals, "gateway-0")
    both.finish(both.begin(a_begun("done")), an_outcome("done"))
    slot = both.begin(a_begun("cut"))
    both.counts[slot] += 12
    loader = Loader(database, journals)
    assert loader.load_once().recovered == 0  # it lives
    both.journal.close()
    both.book.close()
    assert loader.load_once().recovered == 1
    assert stored(database) == {"done": ("completed", 7), "cut": ("failed", 12)}
    assert (leftovers(journals), offsets(database)) == ([], 0)


def test_a_line_wins_over_what_is_recovered(database: Database, journals: Path) -> None:
    """Killed between writing a request's line and freeing its slot: the line is what counts."""
    both = RequestLog(journals, "gateway-0")
    slot = both.begin(a_begun("a"))
    both.counts[slot] += 3
    both.journal.append(an_outcome("a"))
    both.journal.close()
    both.book.close()
    assert Loader(database, journals).load_once().recovered == 0
    assert stored(database) == {"a": ("completed", 7)}


def test_a_book_waits_for_all_journals(
    database: Database, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a journal can't be read, nothing is recovered: the lines in it must win."""
    book = InflightBook(journals, "gateway-0")
    book.begin(a_begun("a"))
    book.close()
    writer = write_journal(journals, an_outcome("a"))
    writer.path.chmod(0)
    loader = Loader(database, journals)
    with monkeypatch.context() as patch:

        def unreadable(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        patch.setattr("inferry.ledger.loader.read_piece", unreadable)
        report = loader.load_once()
    assert (report.failed, report.recovered) == (1, 0)
    writer.path.chmod(0o600)
    assert (loader.load_once().loaded, stored(database)) == (1, {"a": ("completed", 7)})


def test_files_that_were_never_locked_are_swept(database: Database, journals: Path) -> None:
    """A writer that died while it made its file leaves nothing behind."""
    (journals / f"{UNBORN}gateway-0.{'0' * 32}.journal").touch()
    Loader(database, journals).load_once()
    assert leftovers(journals) == []


# --- loaders that meet -------------------------------------------------------------------------------------


def test_one_loader_per_folder(database: Database, journals: Path) -> None:
    """While one process loads a folder, another one leaves it alone and says so."""
    write_journal(journals, an_outcome("a"))
    loader = Loader(database, journals)
    loader.load_once()
    with hold_if_free(journals / "loader.lock"):
        assert loader.load_once().busy
    assert not loader.load_once().busy


def test_a_loader_that_is_late_stores_nothing(database: Database) -> None:
    """Two that read the same bytes of a file, as on a folder shared by hosts: the second one's are taken back."""
    one, two = OutcomeStore(database, "1" * 32), OutcomeStore(database, "2" * 32)
    assert one.store("f" * 32, 0, 10, [an_outcome("a")]) == 1
    for offset in (0, 5):
        with pytest.raises(OffsetMoved):
            two.store("f" * 32, offset, 20, [an_outcome("b")])
    assert two.store("f" * 32, 10, 20, [an_outcome("b")]) == 1
    assert set(stored(database)) == {"a", "b"}


def test_several_hosts_load_at_once(store_url: str, journals: Path) -> None:
    """Four hosts with the same tenants, days and some of the same ids: nobody fails, and the sums are right."""

    def load(host: int) -> LoadReport:
        mine = open_database(store_url)
        folder = journals / f"{host}"
        rng = random.Random(host)
        shared = [an_outcome(f"shared-{number}") for number in range(40)]
        own = [
            an_outcome(
                f"{host}-{number}",
                tenant=rng.choice(["acme", "bolt", "cold"]),
                received_wall_s=NEW_YEAR_WALL_S + rng.randrange(5) * 86400,
            )
            for number in range(400)
        ]
        both = shared + own
        rng.shuffle(both)
        write_journal(folder, *both)
        report = Loader(mine, folder, piece_bytes_max=4000).load_once()
        mine.close()
        return report

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(load, range(4)))
    assert [report.failed for report in reports] == [0] * 4
    assert sum(report.loaded for report in reports) == 4 * 400 + 40
    database = open_database(store_url)
    assert len(stored(database)) == 4 * 400 + 40
    database.close()


def test_two_stores_never_share_journals(database: Database, tmp_path: Path, journals: Path) -> None:
    """A folder with journals for one store is not loaded into another; an empty one is free to change."""
    writer = write_journal(journals, an_outcome("a"), close=False)
    first = Loader(database, journals)
    other = open_database(f"sqlite:///{tmp_path}/other.sqlite")
    with pytest.raises(ConfigError, match="holds journals for the store"):
        Loader(other, journals)
    writer.close()
    first.load_once()
    Loader(other, journals)
    other.close()


def test_a_store_that_was_emptied_is_filled_again(database: Database, journals: Path) -> None:
    """What the loader remembers of offsets gives way to what the store says."""
    writer = write_journal(journals, an_outcome("a"), close=False)
    loader = Loader(database, journals)
    loader.load_once()
    with database.write() as connection:
        for table in (outcomes, daily_usage, journal_offsets):
            connection.execute(table.delete())
    writer.append(an_outcome("b"))
    assert loader.load_once().failed == 1
    assert loader.load_once().loaded == 2
    assert set(stored(database)) == {"a", "b"}
    writer.close()


def test_folders_have_ids_that_stay(journals: Path) -> None:
    """Two folders never share an id, and a folder keeps its own."""
    for name in ("one", "two"):
        (journals / name).mkdir()
    one, two = folder_id(journals / "one"), folder_id(journals / "two")
    assert one != two
    assert folder_id(journals / "one") == one


def test_offsets_of_deleted_files_are_forgotten_by_the_next_loader(
    database: Database, journals: Path
) -> None:
    """A loader that died between deleting a file and forgetting its offset; other hosts' offsets stay."""
    source = folder_id(journals)
    with database.write() as connection:
        for id, whose in (("1" * 32, source), ("2" * 32, "f" * 32)):
            connection.execute(insert(journal_offsets).values(file_id=id, source=whose, offset_bytes=7))
    Loader(database, journals).load_once()
    with database.read() as connection:
        assert connection.execute(select(journal_offsets.c.file_id)).scalars().all() == ["2" * 32]


def test_a_folder_that_is_gone_is_the_ledgers_error(database: Database, journals: Path) -> None:
    """Whatever the file system does comes out as one kind of error, for whoever calls twice a second."""
    loader = Loader(database, journals / "deep")
    shutil.rmtree(journals)
    with pytest.raises(LedgerUnavailable, match="can't be used"):
        loader.load_once()


def test_a_store_that_is_away_loses_nothing(database: Database, journals: Path) -> None:
    """An error of the store comes out, the journal stays, and the next time loads it."""
    writer = write_journal(journals, an_outcome("a"))
    loader = Loader(database, journals)

    def away(*_: object) -> None:
        raise LedgerUnavailable("away")

    event.listen(database._engine, "commit", away)
    with pytest.raises(LedgerUnavailable):
        loader.load_once()
    event.remove(database._engine, "commit", away)
    assert leftovers(journals) == [writer.path.name]
    assert loader.load_once().loaded == 1
    assert set(stored(database)) == {"a"}


# --- loaders that die --------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> bool:
    """Run `work` in a forked process; whether it came to its end, and was not killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFEXITED(status)


class Killer:
    """Kills its process with SIGKILL at the n-th step: before each statement and commit, and around file calls."""

    def __init__(self, n: int, patch: pytest.MonkeyPatch) -> None:
        self._left = n
        unlink, write_bytes = Path.unlink, Path.write_bytes

        def dying_unlink(path: Path, missing_ok: bool = False) -> None:
            self.step()
            unlink(path, missing_ok)
            self.step()

        def dying_write(path: Path, data: bytes) -> int:
            self.step()
            count = write_bytes(path, data)
            self.step()
            return count

        patch.setattr(Path, "unlink", dying_unlink)
        patch.setattr(Path, "write_bytes", dying_write)

    def watch(self, database: Database) -> None:
        event.listen(database._engine, "before_cursor_execute", self.step)
        event.listen(database._engine, "after_cursor_execute", self.step)
        event.listen(database._engine, "commit", self.step)

    def step(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_killed_at_every_step(store_url: str, journals: Path) -> None:
    """SIGKILL before and after every statement, commit and file call of a load: nothing lost, nothing twice."""
    deaths = 0
    while True:
        database = open_database(store_url)
        with database.write() as connection:
            for table in (outcomes, daily_usage, journal_offsets):
                connection.execute(table.delete())
        database.close()
        folder = journals / str(deaths)
        both = RequestLog(folder, "gateway-0")
        for number in range(3):
            both.finish(None, an_outcome(f"{number}", received_wall_s=NEW_YEAR_WALL_S + number * 86400))
        with both.journal.path.open("ab") as file:
            file.write(b"corrupt\n")
        slot = both.begin(a_begun("cut"))
        both.counts[slot] += 5
        both.finish(both.begin(a_begun("3")), an_outcome("3"))
        both.journal.close()
        both.book.close()
        write_journal(folder, an_outcome("2"), an_outcome("4"))

        def load(n: int = deaths + 1, folder: Path = folder) -> None:
            with pytest.MonkeyPatch.context() as patch:
                mine = open_database(store_url)
                loader = Loader(mine, folder, piece_bytes_max=700)
                killer = Killer(n, patch)
                killer.watch(mine)
                loader.load_once()

        survived = in_child(load)
        database = open_database(store_url)
        Loader(database, folder).load_once()
        found = stored(database)
        assert found == {f"{number}": ("completed", 7) for number in range(5)} | {"cut": ("failed", 5)}, (
            deaths
        )
        assert offsets(database) == 0, deaths
        assert [Path(name).suffix for name in leftovers(folder)] == [".bad"], deaths
        database.close()
        if survived:
            break
        deaths += 1
    assert deaths > 40


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events_gives_the_same_sums(store_url: str, journals: Path, seed: int) -> None:
    """Gateways that begin, finish, die and rotate, and loaders that load or die at a random step, in any order."""
    rng = random.Random(seed)
    expected: dict[str, tuple[str, int]] = {}
    living: list[RequestLog] = []
    open_slots: dict[int, list[tuple[str, int]]] = {}
    number = 0

    def load_and_die(step: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            database = open_database(store_url)
            loader = Loader(database, journals, piece_bytes_max=rng.choice([300, 2000, 100_000]))
            Killer(step, patch).watch(database)
            loader.load_once()

    for _ in range(150):
        event_ = rng.random()
        if not living or event_ < 0.05:
            both = RequestLog(journals, f"gateway-{len(living)}")
            both.journal._file_bytes_max = rng.choice([600, 5000])
            living.append(both)
            open_slots[id(both)] = []
            continue
        both = rng.choice(living)
        slots = open_slots[id(both)]
        if event_ < 0.45:
            number += 1
            slots.append((f"{number}", both.begin(a_begun(f"{number}"))))
            expected[f"{number}"] = ("failed", 0)
        elif event_ < 0.60 and slots:
            name, slot = rng.choice(slots)
            both.counts[slot] += 2
            expected[name] = ("failed", expected[name][1] + 2)
        elif event_ < 0.80 and slots:
            name, slot = slots.pop(rng.randrange(len(slots)))
            both.finish(slot, an_outcome(name, completion_tokens=expected[name][1]))
            expected[name] = ("completed", expected[name][1])
        elif event_ < 0.88:
            living.remove(
                both
            )  # as the kernel does it for one that is killed: both files let go, slots as they are
            both.journal.close()
            both.book.close()
            del open_slots[id(both)]
        elif event_ < 0.96:
            step = rng.randrange(1, 60)
            in_child(partial(load_and_die, step))
        else:
            database = open_database(store_url)
            Loader(database, journals).load_once()
            database.close()
    for both in living:
        both.journal.close()
        both.book.close()
    database = open_database(store_url)
    Loader(database, journals).load_once()
    assert stored(database) == expected
    assert (leftovers(journals), offsets(database)) == ([], 0)
    database.close()


def test_file_ids_come_from_names(journals: Path) -> None:
    """A journal's id in the store is the unique part of its name."""
    writer = write_journal(journals)
    assert writer.path.name == f"gateway-0.{file_id(writer.path)}.journal"
    assert len(file_id(writer.path)) == 32
