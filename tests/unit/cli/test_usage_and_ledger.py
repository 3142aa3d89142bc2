"""`inferry usage` and `inferry ledger`, as a person or a program sees them."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

import pytest

from inferry.cli.usage import money_text
from inferry.core.outcome import Ending, UsageFrom
from inferry.ledger.database import default_url, open_database
from inferry.ledger.engine_counters import note_lives
from inferry.ledger.journal import JournalWriter
from inferry.ledger.loader import folder_id
from inferry.ledger.outcome_rows import DAY_S, day_of
from inferry.ledger.reconcile import Counters, EngineLife
from tests.unit.ledger.outcomes import an_outcome

from .conftest import Run

NOW_WALL_S = time.time()


@pytest.fixture
def journal(run: Run, tmp_path: Path) -> Path:
    """Four requests of two tenants, of today and ten days ago, written by a gateway that has ended."""
    folder = tmp_path / "home" / "ledger" / "journal"
    writer = JournalWriter(folder, "gateway-0")
    for id, tenant, age_s, ending in (
        ("a", "acme", 0.0, Ending.COMPLETED),
        ("b", "acme", 10.0 * DAY_S, Ending.COMPLETED),
        ("c", "bolt", 0.0, Ending.CANCELLED),
        ("d", "bolt", 0.0, Ending.FAILED),
    ):
        cut = ending is Ending.CANCELLED
        usage_from = UsageFrom.COUNTED if cut else UsageFrom.ENGINE
        writer.append(
            an_outcome(
                id,
                tenant=tenant,
                received_wall_s=NOW_WALL_S - age_s,
                ending=ending,
                usage_from=usage_from,
                cost_nano=1_234_500_000,
                duration_s=0.0,
            )
        )
    writer.close()
    return folder


def test_usage_as_a_table(run: Run, journal: Path) -> None:
    """Pending journals are loaded, and the table has one line per group, with a total and the cost."""
    shown = run("usage", "--by", "tenant")
    assert (shown.code, shown.err) == (0, "")
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines == [
        ["TENANT", "REQUESTS", "FAILED", "PROMPT", "CACHED", "COMPLETION", "COUNTED", "COST", "USD"],
        ["acme", "2", "0", "20", "8", "14", "0", "2.4690"],
        ["bolt", "2", "1", "20", "8", "14", "7", "2.4690"],
        ["total", "4", "1", "40", "16", "28", "7", "4.9380"],
    ]


def test_usage_for_programs(run: Run, journal: Path) -> None:
    """JSON has exact costs as text and as billionths; filters and ranges apply; nothing else is on stdout."""
    shown = run("usage", "--by", "day,key", "--since", "1d", "--tenant", "acme", "--json")
    answer = json.loads(shown.out)
    assert answer["currency"] == "USD"
    (row,) = answer["rows"]
    assert (row["day"], row["key"]) == (day_of(NOW_WALL_S), "key_a")
    assert (row["requests"], row["cost"], row["cost_nano"]) == (1, "1.234500000", 1_234_500_000)
    assert answer["total"]["completion_tokens"] == 7


def test_usage_for_spreadsheets(run: Run, journal: Path) -> None:
    """CSV has a header, a line per group and no total."""
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "tenant,deployment", "--csv").out)))
    assert [(row["tenant"], row["deployment"], row["requests"], row["cost_usd"]) for row in rows] == [
        ("acme", "chat", "2", "2.469000000"),
        ("bolt", "chat", "2", "2.469000000"),
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("usage", "--by", "tenat"), "Did you mean 'tenant'?"),
        (("usage", "--since", "yesterday"), "--since: 'yesterday' is no time"),
        (("usage", "--json", "--csv"), "contradict"),
        (("ledger", "adjust", "--reason", "x", "--cost", "much"), "--cost: 'much' is no amount"),
        (("ledger", "adjust", "--reason", "x", "--cost", "1e99"), "is no amount"),
        (("ledger", "adjust", "--reason", "x", "--day", "2026-02-30"), "is no day"),
    ],
)
def test_slips_are_named(run: Run, argv: tuple[str, ...], said: str) -> None:
    """What can't be understood is said with the option, the value and the way out."""
    shown = run(*argv)
    assert shown.code == 1
    assert said in shown.err


def test_load_says_what_it_did(run: Run, journal: Path) -> None:
    """Outcomes are loaded once, and the journal is gone."""
    assert run("ledger", "load").out.startswith("4 outcomes loaded")
    assert json.loads(run("ledger", "load", "--json").out)["loaded"] == 0
    assert list(journal.glob("*.journal")) == []


def test_corrupt_lines_are_a_warning(run: Run, journal: Path) -> None:
    """A damaged line is named on stderr, and the figures come all the same."""
    (path,) = journal.glob("*.journal")
    path.write_bytes(b"garbage\n" + path.read_bytes())
    shown = run("usage", "--json")
    assert json.loads(shown.out)["total"]["requests"] == 4
    assert "1 corrupt line(s)" in shown.err


def test_journals_of_another_store_are_left_alone(run: Run, journal: Path, tmp_path: Path) -> None:
    """With a file that names another store, usage shows that store and says why the journals are not in it."""
    (journal / "store").write_text("/another/store")
    shown = run("usage")
    assert shown.code == 0
    assert "holds journals for the store /another/store" in shown.err
    assert run("ledger", "load").code == 1


def test_prune_keeps_the_sums(run: Run, journal: Path) -> None:
    """Old outcomes go, the daily sums stay, and a question about a part of such a day is answered with all of it."""
    run("ledger", "load")
    assert run("ledger", "prune", "--keep-days", "5", typed="n\n").code == 1
    assert run("ledger", "prune", "--keep-days", "5", "--yes").out.startswith("1 outcomes")
    assert json.loads(run("usage", "--json").out)["total"]["requests"] == 4
    begin_wall_s = NOW_WALL_S - 10 * DAY_S
    shown = run("usage", "--by", "day", "--since", f"{day_of(begin_wall_s)}T23:59:59Z", "--until", "9d")
    assert day_of(begin_wall_s) in shown.out
    assert "only the sums are kept" in shown.err


def test_a_refund_lowers_the_cost(run: Run, journal: Path) -> None:
    """A correction is in the figures of its tenant, to the billionth."""
    run("ledger", "load")
    done = run("ledger", "adjust", "--tenant", "acme", "--cost", "-0.000000001", "--reason", "slow")
    assert done.out.startswith("adj_")
    total = json.loads(run("usage", "--tenant", "acme", "--json").out)["total"]
    assert (total["cost_nano"], total["requests"]) == (2_469_000_000 - 1, 2)


def test_reconcile_explains_or_fails(run: Run, journal: Path, tmp_path: Path) -> None:
    """A difference with a cause is explained; one without is an error with exit code 1."""
    run("ledger", "load")
    database = open_database(default_url(tmp_path / "home"))

    def note(completion_tokens: int) -> None:
        life = EngineLife(
            folder_id(journal), "chat-0", "chat", "simulated", NOW_WALL_S - 60.0,
            Counters(NOW_WALL_S - 60.0, 0, 0), Counters(NOW_WALL_S + 1.0, None, completion_tokens),
        )  # fmt: skip
        note_lives(database, [life])

    note(21 + 5)  # three requests of today, one of them cut off
    shown = run("ledger", "reconcile")
    assert (shown.code, "explained" in shown.out) == (0, True)
    assert "streams cut off: generated and not relayed: 1, 0 to 64 tokens" in shown.out
    note(20)
    shown = run("ledger", "reconcile", "--json")
    assert shown.code == 1
    assert "have no explanation" in shown.err
    completion, prompt = json.loads(shown.out)[0]["comparisons"]
    assert (completion["verdict"], completion["unexplained_tokens"]) == ("unexplained", -1)
    assert prompt["verdict"] == "unknown"
    database.close()


def test_migrate_prepares_the_store(run: Run, tmp_path: Path) -> None:
    """The store that the file names is made ready, and named."""
    assert str(tmp_path / "home" / "ledger" / "ledger.sqlite") in run("ledger", "migrate").out


@pytest.mark.parametrize(
    ("nano", "digits", "text"),
    [
        (0, 4, "0.0000"),
        (5_250_000, 4, "0.0053"),
        (-1, 9, "-0.000000001"),
        (-1, 4, "0.0000"),
        (1_234_567_000_000_000, 2, "1,234,567.00"),
    ],
)
def test_money_is_rounded_for_eyes_only(nano: int, digits: int, text: str) -> None:
    """Billionths become decimal text without a float in between."""
    assert money_text(nano, digits) == text
