"""The table of llama-server's flags, and what Inferry makes of them, asked of a real llama-server."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from inferry.core.local_engines import LlamaCppDeployment
from inferry.engines.adapter import LaunchableAdapter
from inferry.engines.flag_table import table_for
from inferry.engines.registry import adapter_for

from .engine_cases import NAME, context

LLAMA_SERVER = shutil.which("llama-server")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LLAMA_SERVER is None, reason="no llama-server on the PATH"),
]
REFUSED = re.compile(r"error: invalid argument|error while handling argument")


def llama_server(*args: str) -> subprocess.CompletedProcess[str]:
    assert LLAMA_SERVER is not None
    return subprocess.run([LLAMA_SERVER, *args], capture_output=True, text=True, timeout=60)


def test_its_flags_are_in_the_table() -> None:
    """Every spelling that its help shows is a flag, an alias, or gone."""
    shown = set()
    for line in llama_server("--help").stdout.splitlines():
        if line.startswith("-") and not line.startswith("----"):
            head = line if len(line) < 40 or line[39] != " " else line[:40]
            shown |= set(re.findall(r"(?<![\w<])--?[A-Za-z][\w.-]*(?=[, ]|$)", head.split(" <")[0]))
    table = table_for("llamacpp", None)
    assert len(shown) > 200
    assert sorted(shown - {*table.flags, *table.aliases, *table.gone}) == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gpu_layers": 0, "context_tokens": 512, "parallel": 2},
        {
            "extra_args": [
                "-fa",
                "auto",
                "-ctk",
                "q8_0",
                "--no-kv-offload",
                "--cache-ram",
                "0",
                "--seed",
                "-1",
            ]
        },
    ],
)
def test_its_parser_takes_our_command(settings: dict[str, object]) -> None:
    """What the adapter writes gets past the parser: what it complains of then is the missing model."""
    deployment = LlamaCppDeployment.model_validate(
        {"engine": "llamacpp", "model": "file:/m.gguf", "binary": LLAMA_SERVER, **settings}
    )
    adapter = adapter_for(NAME, deployment)
    assert isinstance(adapter, LaunchableAdapter)
    ended = llama_server(*adapter.launch(context(), {}).argv[1:])
    log = ended.stdout + ended.stderr
    assert not REFUSED.search(log), log
    assert "failed to open GGUF file" in adapter.read_exit(ended.returncode, log.splitlines()).message


def test_what_it_refuses_is_final() -> None:
    """Its words about a wrong argument are found in its log, and it is not started again for them."""
    deployment = LlamaCppDeployment(engine="llamacpp", model="file:/m.gguf", binary=LLAMA_SERVER)
    adapter = adapter_for(NAME, deployment)
    assert isinstance(adapter, LaunchableAdapter)
    for args in (("--nonsense", "1"), ("--ctx-size", "x"), ("--ctx-size=5",)):
        ended = llama_server(*args)
        reading = adapter.read_exit(ended.returncode, (ended.stdout + ended.stderr).splitlines())
        assert not reading.retryable
        assert args[0] in reading.message
