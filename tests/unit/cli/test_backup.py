"""`inferry backup` and `inferry restore`: what comes back, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inferry.ledger.archive import read_archive
from inferry.ledger.database import default_url, open_database
from inferry.ledger.inflight_book import InflightBook
from inferry.ledger.journal import JournalWriter
from inferry.ledger.loader import Loader
from tests.unit.ledger.inflight import a_begun
from tests.unit.ledger.outcomes import an_outcome

from .conftest import Run

FILE = "deployments:\n  chat: {engine: simulated, price: {prompt_per_mtok: 1}}\n"


@pytest.fixture
def home(run: Run, tmp_path: Path) -> Path:
    """A file, a key, an outcome in the store, one in a journal, and a request that a dead gateway had under way."""
    (tmp_path / "inferry.yaml").write_text(FILE)
    home = tmp_path / "home"
    assert run("keys", "create", "--tenant", "acme", "--name", "shop").code == 0
    folder = home / "ledger" / "journal"
    writer = JournalWriter(folder, "gateway-0")
    writer.append(an_outcome("loaded"))
    database = open_database(default_url(home))
    Loader(database, folder).load_once()
    database.close()
    writer.append(an_outcome("waiting"))
    writer.close()
    book = InflightBook(folder, "gateway-0")
    assert book.begin(a_begun("cut-off")) is not None
    book.close()
    return home


def counted(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Requests and tokens of all days, from the store in `home`."""
    monkeypatch.setenv("INFERRY_HOME", str(home))
    shown = run("usage", "--by", "tenant", "--since", "2025-12-01", "--json")
    assert shown.code == 0, shown.err
    found = json.loads(shown.out)
    assert isinstance(found, dict)
    return {str(row["tenant"]): int(row["requests"]) for row in found["rows"]}


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_all_comes_back_once(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Loaded, waiting and cut off: each is counted once after a restore, and keys are the same; the file is private."""
    if suffix.endswith("zst") and shutil.which("zstd") is None:
        pytest.skip("the program zstd is not on this machine")
    archive = tmp_path / f"backup{suffix}"
    made = run("backup", "-o", str(archive))
    assert made.code == 0, made.err
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert run("backup", "--check", str(archive)).code == 0
    before, keys = counted(run, home, monkeypatch), run("keys", "list").out
    restored = run("restore", str(archive), "--to", str(tmp_path / "new"))
    assert restored.code == 0, restored.err
    assert (tmp_path / "new" / "inferry.yaml").read_text() == FILE
    assert counted(run, tmp_path / "new", monkeypatch) == before
    assert sum(before.values()) == 3
    assert run("keys", "list").out == keys
    assert "shop" in keys


def test_a_line_half_written_and_a_request_under_way_stay_behind(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """Of a gateway that lives, whole lines are copied; its book is not, since its requests have no outcome."""
    folder = home / "ledger" / "journal"
    writer, book = JournalWriter(folder, "gateway-1"), InflightBook(folder, "gateway-1")
    writer.append(an_outcome("whole"))
    whole = writer.path.read_bytes()
    with writer.path.open("ab") as file:
        file.write(b'{"id": "hal')
    assert run("backup", "-o", "b.tar.gz").code == 0
    (tmp_path / "out").mkdir()
    manifest = read_archive(tmp_path / "b.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "ledger" / "journal" / writer.path.name).read_bytes() == whole
    assert manifest.under_way == 1
    assert [name for name in manifest.files if name.endswith("inflight") and "gateway-1" in name] == []
    writer.close()
    book.close()


def test_restore_is_never_over_something(run: Run, home: Path, tmp_path: Path) -> None:
    """A home in use is refused and stays as it was; models in it are no hindrance."""
    assert run("backup", "-o", "b.tar.gz").code == 0
    (home / "ledger" / "mark").touch()
    refused = run("restore", "b.tar.gz")
    assert refused.code == 1
    assert "is in use: it holds ledger" in refused.err
    assert (home / "ledger" / "mark").exists()
    (tmp_path / "new" / "models").mkdir(parents=True)
    assert run("restore", "b.tar.gz", "--to", str(tmp_path / "new")).code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["inferry.yaml", "ledger", "models"]


def rewritten(archive: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """The archive with each member's name and content changed, or left out for None."""
    with tarfile.open(archive) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(archive, "w:gz") as tar:
        for found in (change(*each) for each in members):
            if found is not None:
                member = tarfile.TarInfo(found[0])
                member.size = len(found[1])
                tar.addfile(member, io.BytesIO(found[1]))


DAMAGE: dict[str, tuple[Callable[[str, bytes], tuple[str, bytes] | None], str]] = {
    "a byte": (lambda n, b: (n, b[:-1] + b"!") if n == "inferry.yaml" else (n, b), "is not what it was"),
    "longer": (lambda n, b: (n, b + b"!") if n == "inferry.yaml" else (n, b), "is not what it was"),
    "missing": (lambda n, b: None if n == "inferry.yaml" else (n, b), "inferry.yaml missing"),
    "outside": (lambda n, b: ("../evil", b) if n == "inferry.yaml" else (n, b), "'../evil' is not in"),
    "outside by manifest": (
        lambda n, b: (n.replace("inferry.yaml", "../evil"), b.replace(b'"inferry.yaml"', b'"../evil"')),
        "'../evil' has no place",
    ),
    "newer": (lambda n, b: (n, b.replace(b'"format": 1', b'"format": 2')), "of format 2"),
    "no manifest": (lambda n, b: None if n == "manifest.json" else (n, b), "does not begin with"),
}


def test_what_is_not_as_it_was_is_refused(run: Run, home: Path, tmp_path: Path) -> None:
    """Damage and paths out of the archive are named; the home stays empty, and nothing is written elsewhere."""
    for book in (home / "ledger" / "journal").glob("*.inflight"):
        book.unlink()  # 70 MB, which take their time
    good = tmp_path / "good.tar.gz"
    assert run("backup", "-o", str(good)).code == 0
    for change, words in DAMAGE.values():
        archive = tmp_path / "b.tar.gz"
        shutil.copyfile(good, archive)
        rewritten(archive, change)
        refused = run("restore", str(archive), "--to", str(tmp_path / "deep" / "new"))
        assert refused.code == 1
        assert words in refused.err
        assert list((tmp_path / "deep").rglob("*")) == [tmp_path / "deep" / "new"]
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    assert "is damaged" in run("backup", "--check", str(cut)).err


def test_an_older_store_is_migrated_and_a_newer_one_refused(run: Run, home: Path, tmp_path: Path) -> None:
    """The restored store has this version's tables; one of a later version is not touched."""
    store = home / "ledger" / "ledger.sqlite"
    with sqlite3.connect(store) as connection:
        [now] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("DROP TABLE leaders")
        connection.execute("UPDATE alembic_version SET version_num = '0003_retention'")
    assert run("backup", "-o", "old.tar.gz").code == 0
    assert run("restore", "old.tar.gz", "--to", str(tmp_path / "old")).code == 0
    with sqlite3.connect(tmp_path / "old" / "ledger" / "ledger.sqlite") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (now,)
        assert connection.execute("SELECT count(*) FROM leaders").fetchone() is not None
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert run("backup", "-o", "newer.tar.gz").code == 0
    refused = run("restore", "newer.tar.gz", "--to", str(tmp_path / "newer"))
    assert refused.code == 1
    assert "made by a newer Inferry" in refused.err
    assert list((tmp_path / "newer").iterdir()) == []


def test_only_old_backups_of_ours_are_let_go(run: Run, home: Path, tmp_path: Path) -> None:
    """`--keep 2` leaves the newest two, and whatever else lies there."""
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("inferry-20250101T000000Z.tar.gz", "inferry-20250102T000000Z.tar.gz", "inferry-mine.tar.gz"):
        (folder / name).touch()
    shown = run("backup", "-o", str(folder), "--keep", "2", "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["deleted"] == ["inferry-20250101T000000Z.tar.gz"]
    left = sorted(path.name for path in folder.iterdir())
    assert left[0] == "inferry-20250102T000000Z.tar.gz"
    assert left[2] == "inferry-mine.tar.gz"
    assert len(left) == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "Say where to"),
        (("-o", "b.zip"), "ends in .tar.gz or .tar.zst"),
        (("-o", "inferry.yaml.tar.gz", "--keep", "2"), "--keep needs a folder"),
        (("-o", "nowhere/b.tar.gz"), "create it first"),
        (("--check", "b.tar.gz"), "does not exist"),
        (("--check", "inferry.yaml"), "is damaged, or no backup"),
        (("--check", "inferry.yaml", "-o", "b.tar.gz"), "--check makes no backup"),
    ],
)
def test_wrong_words_are_answered(run: Run, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    """Each says what to do instead."""
    (tmp_path / "inferry.yaml").write_text(FILE)
    shown = run("backup", *words)
    assert shown.code == 1
    assert complaint in " ".join(shown.err.split())


def test_without_a_store_there_is_nothing_to_back_up(run: Run, tmp_path: Path) -> None:
    """A home that is not the right one is not taken for an empty one, and nothing is left behind."""
    shown = run("backup", "-o", "b.tar.gz")
    assert shown.code == 1
    assert "There is no store at" in shown.err
    assert list(tmp_path.iterdir()) == []
