"""`inferry config check`: what is told of a file whose keys and values are right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import Run, Shown


def checked(run: Run, text: str) -> Shown:
    Path("inferry.yaml").write_text(text)
    return run("config", "check")


# --- models -------------------------------------------------------------------------------------------


def test_a_model_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """A `file:` model is looked for where `up` looks, below the file's folder, and its key's line is named."""
    text = "deployments:\n  a:\n    engine: llamacpp\n    model: file:models/m.gguf\n"
    path = tmp_path / "models" / "m.gguf"
    refused = checked(run, text)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"error: inferry.yaml:4: deployments.a.model: {path} does not exist. Correct the path behind 'file:'.\n"
    )
    path.parent.mkdir()
    path.write_bytes(b"GGUF")
    assert checked(run, text).code == 0


def test_a_model_that_the_engine_cannot_load(run: Run) -> None:
    """A folder without config.json is told by the check, as `up` tells it."""
    Path("empty").mkdir()
    refused = checked(run, "deployments:\n  a: {engine: vllm, model: 'file:empty'}\n")
    assert refused.code == 1
    assert refused.err.startswith("error: inferry.yaml:2: deployments.a.model: its model ")
    assert "has no config.json" in refused.err


@pytest.mark.parametrize("model", ["hf:org/tiny/tiny.gguf", "https://example.org/tiny.gguf"])
def test_a_model_that_is_yet_to_be_fetched(run: Run, model: str) -> None:
    """What `up` would fetch need not be here."""
    assert checked(run, f"deployments:\n  a: {{engine: llamacpp, model: '{model}'}}\n").code == 0


def test_lines_of_what_is_found_late(run: Run) -> None:
    """What only shows when parts are built has file and line, too; a name may hold dots."""
    refused = checked(
        run,
        "deployments:\n  a: {engine: simulated}\n"
        "  a.b:\n    engine: simulated\n    prompt_truth: {tokenizer: nowhere}\n",
    )
    assert refused.err.startswith("error: inferry.yaml:5: deployments.a.b.prompt_truth: ")


# --- memory -------------------------------------------------------------------------------------------


BUDGET = "host: {memory_budget: 8GiB}\ndeployments:\n"


def test_a_memory_budget_that_is_too_small(run: Run) -> None:
    """The budget's line, what is needed, and how much is missing."""
    refused = checked(run, BUDGET + "  a: {engine: simulated, memory: 5GiB, replicas: 2}\n")
    assert refused.err == (
        "error: inferry.yaml:1: host.memory_budget is too small for what is always loaded (a): they need 10.0 GiB, "
        "which is 2.0 GiB more than the 8.0 GiB. Give it more, or let some load on demand (load: on_demand).\n"
    )


def test_a_model_that_never_fits(run: Run) -> None:
    """Each such deployment has its line, and how much is missing."""
    big = "engine: simulated, load: on_demand, memory: 9GiB"
    refused = checked(run, BUDGET + f"  a: {{{big}}}\n  b: {{{big}}}\n")
    needs = "it needs 9.0 GiB, and host.memory_budget is 8.0 GiB: 1.0 GiB are missing."
    assert refused.err == (
        f"error: inferry.yaml:3: deployments.a can never be loaded: {needs}\n"
        f"inferry.yaml:4: deployments.b can never be loaded: {needs}\n"
    )


def test_the_need_of_a_missing_file_is_not_asked_for(run: Run) -> None:
    """Only that the file is missing: what it needs would be known if it were there."""
    refused = checked(run, BUDGET + "  a: {engine: llamacpp, model: 'file:no.gguf', load: on_demand}\n")
    assert refused.err.count("\n") == 1
    assert "no.gguf does not exist" in refused.err


# --- libraries ----------------------------------------------------------------------------------------

CHAT = "deployments: {chat: {engine: simulated}}\n"


@pytest.mark.parametrize("verb", [("config", "check"), ("up", "--port", "0")])
@pytest.mark.parametrize(
    ("library", "section", "key", "extra"),
    [
        (
            "redis",
            "gateway: {shared_limits: {redis: 'redis://h:1/0'}}",
            "gateway.shared_limits.redis",
            "redis",
        ),
        ("opentelemetry", "gateway: {traces: {endpoint: 'http://h:1/'}}", "gateway.traces", "otel"),
        ("psycopg", "ledger: {url: 'postgresql://h/db'}", "ledger.url", "postgres"),
    ],
)
def test_a_library_that_is_not_installed(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    section: str,
    key: str,
    extra: str,
    verb: tuple[str, ...],
) -> None:
    """The key's line and the command that brings it, before anything is started."""
    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    Path("inferry.yaml").write_text(CHAT + section + "\n")
    refused = run(*verb)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"error: inferry.yaml:2: {key} needs a library that is not installed. "
        f"Install it: pip install 'inferry[{extra}]'\n"
    )


# --- all at once --------------------------------------------------------------------------------------


def test_everything_that_shows_late_is_told_at_once(run: Run) -> None:
    """Models, memory, filters, certificates and tokenizers: a file is repaired in one round."""
    refused = checked(
        run,
        "host: {memory_budget: 1GiB}\n"
        "gateway:\n"
        "  tls: {certificate: no.pem, key: no.pem}\n"
        "  filters:\n"
        "    - {name: words, terms_file: no.txt}\n"
        "deployments:\n"
        "  a: {engine: simulated, memory: 2GiB, prompt_truth: {tokenizer: nowhere}}\n"
        "  b:\n"
        "    engine: llamacpp\n"
        "    model: file:no.gguf\n"
        "    filters: [{name: numbers, patterns: ['(unclosed']}]\n",
    )
    lines = refused.err.removeprefix("error: ").splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["inferry.yaml:1", "host.memory_budget is too small for what is always loaded (a, b)"],
        ["inferry.yaml:3", "gateway.tls.certificate"],
        ["inferry.yaml:5", "gateway.filters.0"],
        ["inferry.yaml:7", "deployments.a.prompt_truth"],
        ["inferry.yaml:10", "deployments.b.model"],
        ["inferry.yaml:11", "deployments.b.filters.0"],
    ]
