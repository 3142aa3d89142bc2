"""What the benchmark starts ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gateway.processes import tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux' /proc")
BENCHMARK = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.gateway.contenders import Plan, Running, end_in_order, run, spawn
from benchmarks.gateway.cores import share_out

def start(plan, log):
    stand_in = spawn([sys.executable, "-c", "import time; time.sleep(600)"], plan, log)
    return Running("stand-in", "0", 1, stand_in)

end_in_order()
folder = Path(sys.argv[1])
with run("stand-in", start, Plan((1, 2), folder, folder, share_out())) as running:
    print(running.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_contenders_end_when_the_benchmark_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """However it is told: a proxy that was left running would disturb everything that is measured later."""
    command = [sys.executable, "-c", BENCHMARK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        contender = int(benchmark.stdout.readline())
        assert contender in tree(benchmark.pid)
        benchmark.send_signal(number)
        assert benchmark.wait(60) == 128 + number
    assert not Path(f"/proc/{contender}").exists()
