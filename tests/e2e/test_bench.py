"""`inferry bench` from the command line to its files, at simulated engines and through a gateway."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, process_gone, wait_for

pytestmark = pytest.mark.slow

PLACES, TTFT_MS, ITL_MS, TOKENS = 4, 100, 10, 11
CAPACITY = PLACES / (TTFT_MS + (TOKENS - 1) * ITL_MS) * 1000
"""20 requests per second: each answer has one of 4 places for 0.2 s."""


@pytest.fixture
def inferry(tmp_path: Path) -> Inferry:
    return Inferry(tmp_path)


@contextmanager
def engine(*words: str) -> Iterator[str]:
    """A simulated engine's base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [
        sys.executable,
        "-m",
        "inferry.testing.simulated_engine",
        "--port",
        str(port),
        "--served-name",
        "m",
    ]
    process = subprocess.Popen([*argv, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.HTTPError:
            return False

    try:
        wait_for("the simulated engine answers", answers)
        yield f"{url}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    with engine("--parallel", str(PLACES), "--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS)) as url:
        yield url


def bench(
    inferry: Inferry, *words: str, timeout_s: float = 100.0
) -> tuple[subprocess.CompletedProcess[str], Any]:
    """What was said, and the JSON. The client may be INVALID here, since others use the machine too."""
    path = inferry.folder / "result.json"
    path.unlink(missing_ok=True)
    done = inferry.run("bench", *words, "--json", str(path), timeout_s=timeout_s)
    assert path.exists(), done.stderr
    return done, json.loads(path.read_text())


def test_a_run_and_all_its_files(inferry: Inferry, small: str) -> None:
    """The command of the documentation: every request is there, in the summary, the JSON, the CSV and the page."""
    done, found = bench(
        inferry, small, "--model", "m", "--rate", "10", "--duration", "4", "--input-tokens", "100",
        "--output-tokens", str(TOKENS), "--csv", "r.csv", "--html", "r.html", "--seed", "1",
    )  # fmt: skip
    requests = found["requests"]
    assert requests["sent"] == requests["ok"] == requests["due"] > 20
    assert requests["failed"] == 0
    assert {"mean", "p50", "p90", "p95", "p99"} <= set(found["ttft_ms"])
    # Timers of event loops, as the engine's, may fire a millisecond early.
    assert found["ttft_ms"]["min"] >= TTFT_MS - 2
    assert found["e2e_ms"]["min"] >= TTFT_MS + (TOKENS - 1) * ITL_MS - 2
    assert found["tokens"]["output"] == TOKENS * requests["ok"]
    assert found["tokens"]["input"] == 100 * requests["ok"]
    assert found["calibration"]["requests_per_s_max"] > 10
    assert max(each["running"] for each in found["samples"]) >= 1
    assert done.returncode == (3 if found["verdict"] == "invalid" else 0)
    assert f"{requests['ok']} ok, 0 failed" in done.stdout
    rows = list(csv.DictReader((inferry.folder / "r.csv").read_text().splitlines()))
    assert len(rows) == requests["due"]
    page = (inferry.folder / "r.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace(small.removesuffix("/v1"), "").replace("http://www.w3.org/", "")


@pytest.mark.parametrize("api", ["completions", "messages", "responses"])
def test_other_apis(inferry: Inferry, small: str, api: str) -> None:
    """The same load in each API has the same lengths, and no failures."""
    _, found = bench(
        inferry, small, "--api", api, "--concurrency", "2", "--requests", "8", "-i", "50", "-o", "5", "-q",
        "--no-calibrate",
    )  # fmt: skip
    assert found["requests"]["ok"] == found["requests"]["due"] == 8
    assert found["tokens"]["output"] == 40


@pytest.mark.timeout(900)
def test_find_capacity(inferry: Inferry, small: str) -> None:
    """At a server of known capacity, two searches land within 5 % of it and of each other."""
    found = []
    for seed in ("1", "2"):
        _, kept = bench(
            inferry, small, "--find-capacity", "--arrivals", "constant", "--rate", "10", "--duration", "6",
            "-i", "20", "-o", str(TOKENS), "--slo", "ttft=400ms", "--seed", seed, "-q", timeout_s=400,
        )  # fmt: skip
        found.append(kept["capacity"]["found"]["rate"])
    assert found == [pytest.approx(CAPACITY, rel=0.05)] * 2
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_a_goal_that_is_missed(inferry: Inferry, small: str) -> None:
    """Twice as much as the server can do: exit code 1 for CI, or 3 where the client was short of CPU as well."""
    done, found = bench(
        inferry, small, "--rate", str(2 * CAPACITY), "--duration", "3", "-i", "20", "-o", str(TOKENS), "--slo", "ttft=200ms",
        "--goodput-min", "0.9", "-q", "--no-calibrate",
    )  # fmt: skip
    assert found["goodput"]["share"] < 0.5
    assert done.returncode == (3 if found["verdict"] == "invalid" else 1)


def workers(pid: int) -> list[int]:
    """The processes that send for the `inferry bench` of this id."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            if b"inferry.bench.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_a_client_without_cpu_says_invalid(inferry: Inferry, small: str) -> None:
    """A client that is kept from running three quarters of the time calls its run INVALID, with exit code 3."""
    argv = [sys.executable, "-m", "inferry", "bench", small, "-m", "m", "--rate", "8", "--duration", "4"]
    argv += ["-i", "20", "-o", str(TOKENS), "-q", "--no-calibrate"]
    process = subprocess.Popen(
        argv,
        env=inferry.environ,
        cwd=inferry.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        held = workers(process.pid)
        for number, pause_s in ((signal.SIGSTOP, 0.15), (signal.SIGCONT, 0.05)):
            for pid in held:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(pause_s)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3, out + err
    assert "INVALID" in out


def test_a_stopped_run_has_what_there_is(inferry: Inferry, small: str) -> None:
    """Ctrl-C ends the run at once, shows what was measured, and is told to the shell."""
    argv = [
        sys.executable,
        "-m",
        "inferry",
        "bench",
        small,
        "--rate",
        "5",
        "--duration",
        "60",
        "-o",
        "3",
        "--no-calibrate",
    ]
    process = subprocess.Popen(
        argv,
        env=inferry.environ,
        cwd=inferry.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert " ok, " in out
    assert "Traceback" not in out + err


def test_a_deployment_and_its_engine(inferry: Inferry) -> None:
    """A deployment is asked by its name; its replicas' own view is joined in; its engine is asked beside the gateway."""
    inferry.write(
        "deployments: {chat: {engine: simulated, model: simulated, ttft_ms: 50, itl_ms: 5, parallel: 8}}\n"
    )
    with inferry.up() as up:
        up.wait_ready()
        words = ("chat", "--rate", "10", "--duration", "4", "-i", "20", "-o", "11", "-q")
        _, found = bench(inferry, *words, "--no-calibrate")
        assert found["requests"]["ok"] == found["requests"]["due"]
        assert {each["replica"] for each in found["samples"]} == {"chat-0"}
        done, found = bench(inferry, *words, "--compare", "direct")
        assert [run["name"] for run in found["runs"]] == ["gateway", "direct", "direct", "gateway"]
        assert all(run["requests"]["failed"] == 0 for run in found["runs"])
        assert "A: direct   B: gateway" in done.stdout
        assert "Bearer" not in json.dumps(found)


def test_a_replica_is_killed_in_the_middle(inferry: Inferry) -> None:
    """The blow lands on one of two replicas, is in the result and the summary, and the run goes on to its end."""
    inferry.write(
        "deployments: {chat: {engine: simulated, model: simulated, ttft_ms: 50, itl_ms: 5, parallel: 32, replicas: 2}}\n"
    )
    with inferry.up() as up:
        up.wait_ready()
        pid = up.replicas()["chat-0"]["pid"]
        done, found = bench(
            inferry, "chat", "--rate", "10", "--duration", "8", "-i", "20", "-o", "20", "-q", "--no-calibrate",
            "--kill-replica-after", "3",
        )  # fmt: skip
        assert process_gone(pid)
    told = found["resilience"]
    assert (told["kind"], told["replica"]) == ("kill", "chat-0")
    assert 2.9 < told["at_s"] < 4
    assert told["after"] > 20
    assert "chat-0 was killed" in done.stdout


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_real_engines_capacity_is_a_page(inferry: Inferry, sample_model: Path) -> None:
    """Embedded llama.cpp: the search ends by itself, and its page says what it carries and draws it."""
    inferry.write(
        f"deployments: {{chat: {{engine: llamacpp, model: 'file:{sample_model}', threads: 1, parallel: 4}}}}\n"
    )
    page = inferry.folder / "capacity.html"
    with inferry.up() as up:
        up.wait_ready()
        done, found = bench(
            inferry, "chat", "--find-capacity", "--arrivals", "constant", "--duration", "4", "-i", "32", "-o", "16",
            "--slo", "ttft=1s,itl=200ms", "--goodput-min", "0.9", "-q", "--html", str(page), timeout_s=500,
        )  # fmt: skip
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: others kept the client from its CPU
    capacity = found["capacity"]["found"]
    assert capacity["rate"] > 0.1
    assert capacity["why"] != "it was stopped by hand"
    run = found["runs"][-1]
    assert run["tokens"]["output"] > 0
    html = page.read_text()
    assert "arries" in html.split("<h2")[0]
    assert html.count("<svg") >= 4
    assert "http://" not in html.replace("http://127.0.0.1", "").replace("http://www.w3.org", "")
