"""A backup under load, the machine lost, a restore elsewhere: the keys work, and nothing is missing or counted twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Sized
from functools import partial
from pathlib import Path

import httpx
import pytest

from .inferry_process import Inferry, wait_for

FILE = """\
gateway: {auth: keys, workers: 2}
deployments:
  chat: {engine: simulated, ttft_ms: 1, itl_ms: 1}
"""


@pytest.mark.slow
def test_restored_elsewhere_all_outcomes_before_the_backup_are_there(tmp_path: Path) -> None:
    """Each answer that was whole before `inferry backup` began is in the restored ledger once, with its key's tenant."""
    old, new = Inferry(tmp_path), Inferry(elsewhere(tmp_path))
    old.write(FILE)
    archives: list[tuple[Path, set[str]]] = []
    with old.up() as up:
        url = up.wait_ready()
        key = up.new_key("acme", name="shop")
        answered: set[str] = set()
        stop = threading.Event()

        def load() -> None:
            with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
                while not stop.is_set():
                    body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
                    answer = client.post(f"{url}/v1/chat/completions", json=body)
                    if answer.status_code == 200:
                        answered.add(answer.headers["x-request-id"])

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(3):
                enough = len(answered) + 50
                wait_for("more answers", partial(has_grown, answered, enough))
                before = set(answered)
                archive = tmp_path / f"{number}.tar.gz"
                done = old.run("backup", "-o", str(archive))
                assert done.returncode == 0, done.stderr
                archives.append((archive, before))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
    shutil.rmtree(old.home)

    for archive, before in archives:
        shutil.rmtree(new.home, ignore_errors=True)
        done = new.run("restore", str(archive))
        assert done.returncode == 0, done.stderr
        restored = new.home / "inferry.yaml"
        assert restored.read_text() == FILE
        loaded = json.loads(new.run("ledger", "load", "--file", str(restored), "--json").stdout)
        assert loaded["corrupt"] == loaded["recovered"] == 0
        sums = json.loads(new.run("usage", "--by", "tenant", "--json", "--file", str(restored)).stdout)
        rows = {row["tenant"]: row["requests"] for row in sums["rows"]}
        ids = stored_ids(new.home)
        assert before <= ids
        assert rows["acme"] == len(ids)

    with new.up("home/inferry.yaml") as again:
        url = again.wait_ready()
        body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        answer = httpx.post(
            f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
        )
        assert answer.status_code == 200, answer.text
        refused = new.run("restore", str(archives[-1][0]))
        assert refused.returncode == 1
        assert "is in use by" in refused.stderr


def stored_ids(home: Path) -> set[str]:
    """Request ids in the store; fewer than rows if one were there twice."""
    import sqlite3

    with sqlite3.connect(home / "ledger" / "ledger.sqlite") as connection:
        found = [row[0] for row in connection.execute("SELECT request_id FROM outcomes")]
    assert len(found) == len(set(found))
    return set(found)


def elsewhere(folder: Path) -> Path:
    """Another machine's folder."""
    there = folder / "elsewhere"
    there.mkdir()
    return there


def has_grown(found: Sized, enough: int) -> bool:
    """Whether there are so many now."""
    return len(found) >= enough
