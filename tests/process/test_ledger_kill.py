"""Gateway processes killed with -9 at random moments: what they said is in the ledger, once, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from inferry.ledger.database import Database, open_database
from inferry.ledger.loader import Loader
from inferry.ledger.outcome_tables import daily_usage, outcomes

LIVES = 12


class Said:
    """What one process said before it was killed; its last word may be torn."""

    def __init__(self, lines: list[str]) -> None:
        self.begun: set[str] = set()
        self.counted: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        for line in lines:
            what, id, *count = line.split()
            if what == "B":
                self.begun.add(id)
            elif what == "C":
                self.counted[id] = int(count[0])
            else:
                self.ended[id] = int(count[0])


def live_and_die(folder: Path, life: str, rng: random.Random) -> Said:
    """Start a writer, hear it for a random while, kill it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.process.ledger_writer", str(folder), life, str(rng.randrange(10**9))],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child, child.stdout:
        heard = child.stdout.read(rng.randrange(1, 60_000))
        child.kill()
        heard += child.stdout.read()
    return Said(heard.decode().split("\n")[:-1])


def rows(database: Database) -> dict[str, tuple[str, int]]:
    with database.read() as connection:
        found = connection.execute(select(outcomes.c.id, outcomes.c.ending, outcomes.c.completion_tokens))
        return {id: (ending, tokens) for id, ending, tokens in found}


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_killed_gateway_said_is_in_the_ledger(tmp_path: Path, seed: int) -> None:
    """Twelve lives, each cut off: every finished request with its tokens, every open one with those relayed."""
    rng = random.Random(seed)
    folder = tmp_path / "journal"
    database = open_database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    database.migrate()
    loader = Loader(database, folder)
    lives = []
    for number in range(LIVES):
        lives.append(live_and_die(folder, f"life{number}", rng))
        if rng.random() < 0.5:
            loader.load_once()
    loader.load_once()
    found = rows(database)
    ended = open_ = 0
    for said in lives:
        for id, tokens in said.ended.items():
            assert found[id] == ("completed", tokens)
            ended += 1
        for id in said.begun - set(said.ended):
            # It may have counted once more, or written its line, and died before it could say so.
            ending, tokens = found[id]
            assert (tokens or 0) - said.counted.get(id, 0) in (0, 1)
            assert ending in ("failed", "completed")
            open_ += ending == "failed"
    # At most one request of each life began without a word.
    assert len(found) - len(set().union(*(said.begun for said in lives))) in range(LIVES + 1)
    assert ended > 100
    assert open_ > LIVES
    with database.read() as connection:
        (day,) = connection.execute(select(daily_usage)).all()
    assert day.completed + day.failed == len(found)
    assert day.completion_tokens == sum(tokens or 0 for _, tokens in found.values())
    left = {path.name: path for path in folder.iterdir()}
    assert {name for name in left if not name.endswith(".bad")} == {"id", "store", "loader.lock"}
    for name, path in left.items():
        if name.endswith(".bad"):  # a life that was cut off in the middle of a line, which is kept
            (torn,) = path.read_bytes().splitlines()
            with pytest.raises(msgspec.DecodeError):
                msgspec.json.decode(torn)
    database.close()
