"""Inferry as a contender: `inferry up`, with keys, limits, routing, journal and metrics on.

What it really does is asked of the running gateway, and said in the output: a feature that is off is no merit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.gateway.contenders import NotStarted, Plan, Running, ask, free_port, spawn, stop, wait_ready

COMMAND = [sys.executable, "-m", "inferry"]
DEPLOYMENT_FILE = """
gateway:
  listen: 127.0.0.1:{port}
  auth: {auth}
  workers: {workers}
  key_limits:            # high enough never to be hit: they are counted all the same
    requests_per_minute: 100000000
    tokens_per_minute: 100000000000
    requests_in_flight: 100000
    tokens_per_day: 100000000000000
deployments:
  bench:
    engine: openai
    model: bench
    endpoints: [{endpoints}]
    routing: {{policy: round_robin}}
"""


def start_inferry(plan: Plan, log: IO[bytes]) -> Running:
    """With keys if this Inferry has them; the notes say so if not."""
    home = plan.folder / "home"
    home.mkdir(exist_ok=True)
    keyed = "create" in _inferry(home, "keys", "--help").stdout
    port = free_port()
    file = plan.folder / "inferry.yaml"
    file.write_text(
        DEPLOYMENT_FILE.format(
            port=port,
            auth="keys" if keyed else "none",
            workers=plan.workers,
            endpoints=", ".join(f"{url}/v1" for url in plan.urls),
        )
    )
    headers = {"authorization": f"Bearer {_create_key(home)}"} if keyed else {}
    process = spawn([*COMMAND, "up", str(file)], plan, log, INFERRY_HOME=str(home))
    try:
        wait_ready(process, port, headers)
        notes = _what_is_on(port, headers, home)
    except BaseException:
        stop(process)
        raise
    version = _inferry(home, "--version").stdout.split()[-1:] or ["?"]
    return Running("inferry", version[0], port, process, headers, notes)


def _inferry(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=home.parent,
        env={**os.environ, "INFERRY_HOME": str(home)},
    )


def _create_key(home: Path) -> str:
    made = _inferry(home, "keys", "create", "--tenant", "bench", "--json")
    if made.returncode:
        raise NotStarted(f"'inferry keys create' failed: {made.stderr.strip()[:300]}")
    text: str = json.loads(made.stdout)["key"]
    return text


def _what_is_on(port: int, headers: dict[str, str], home: Path) -> list[str]:
    status, _ = ask(port, {})
    _, answer = ask(port, headers)
    notes = ["keys on" if status == 401 else f"KEYS OFF: a request without one got {status}"]
    limited = any("ratelimit" in name for name in answer)
    notes.append("limits on" if limited else "LIMITS OFF: no rate-limit headers")
    journals = [path for path in home.rglob("*journal*") if "-journal" not in path.name]
    notes.append("journal on" if journals else "JOURNAL OFF: no file of that name")
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answered:
            counted = b"inferry_" in answered.read()
    except URLError:
        counted = False
    notes.append("metrics on" if counted else "METRICS OFF: /metrics shows none")
    return notes
