"""`inferry init`, `config check|show|schema` and `version`, as typed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from inferry import __version__
from inferry.core.model_ref import SAMPLE_MODEL

from .conftest import Run

OUTSIDE = """\
gateway: {listen: "${LISTEN:-127.0.0.1:8001}"}
deployments:
  out:
    engine: openai
    model: m
    endpoints: ["http://${HOST}/v1", http://b:1/v1]
    api_key: ${KEY}
"""


# --- init ---------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_is_right(run: Run) -> None:
    """What `init` writes passes `config check`, serves the sample model, and leads on to `up`."""
    assert run("init").out == "Wrote inferry.yaml. Next: inferry up\n"
    assert run("config", "check").out == "inferry.yaml is right: 1 deployment(s): chat\n"
    assert SAMPLE_MODEL in Path("inferry.yaml").read_text()


def test_init_under_another_name(run: Run) -> None:
    """The next step names the file when it is not the usual one."""
    assert run("init", "my.yaml").out == "Wrote my.yaml. Next: inferry up my.yaml\n"
    assert run("config", "check", "my.yaml").code == 0


def test_init_keeps_what_is_there(run: Run) -> None:
    """An existing file is only overwritten on demand."""
    Path("inferry.yaml").write_text("mine")
    refused = run("init")
    assert (refused.code, refused.out) == (1, "")
    assert (
        refused.err
        == "error: inferry.yaml is there already. Give another name, or --force to overwrite it.\n"
    )
    assert Path("inferry.yaml").read_text() == "mine"
    assert run("init", "--force").code == 0
    assert run("config", "check").code == 0


def test_init_into_nowhere(run: Run) -> None:
    """A folder that is not there is one message."""
    shown = run("init", "no/such/inferry.yaml")
    assert (shown.code, shown.err) == (
        1,
        "error: no/such/inferry.yaml can't be written: No such file or directory\n",
    )


# --- check --------------------------------------------------------------------------------------------


def test_check_lists_everything_wrong(run: Run) -> None:
    """A wrong file ends with exit code 1 and a line for each mistake, on stderr alone."""
    Path("inferry.yaml").write_text("deployments:\n  a: {engine: simulated, replicas: 0, ttft: 1}\n")
    shown = run("config", "check")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == (
        "error: inferry.yaml:2: deployments.a.replicas: must be at least 1, not 0\n"
        "inferry.yaml:2: deployments.a.ttft: there is no such key. Did you mean 'ttft_ms'?\n"
    )


@pytest.mark.parametrize("verb", [("config", "check"), ("config", "show"), ("up",)])
def test_missing_file(run: Run, verb: tuple[str, ...]) -> None:
    """Every verb that needs the file says how to get one."""
    shown = run(*verb)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == (
        "error: inferry.yaml does not exist. Write one with 'inferry init', or name another one\n"
    )


# --- show ---------------------------------------------------------------------------------------------


@pytest.fixture
def outside(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with references, and the values that must not show."""
    monkeypatch.setenv("KEY", "sk-hunter2")
    monkeypatch.setenv("HOST", "hunter2.example.org")
    Path("inferry.yaml").write_text(OUTSIDE)


FILTERED = """\
gateway:
  filters:
    - {name: names, terms: [Nightjar, "${HOST}"]}
    - name: judge
      classifier: {url: "http://judge:1/v1/moderations", api_key: "${KEY}"}
deployments:
  chat: {engine: simulated}
"""


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.usefixtures("outside")
def test_show_takes_lists_of_sections_apart(run: Run, flags: tuple[str, ...]) -> None:
    """Each key of each filter is a value of its own, and secrets in there stay references too."""
    Path("inferry.yaml").write_text(FILTERED)
    shown = run("config", "show", *flags)
    assert shown.code == 0
    assert "gateway.filters.0.terms" in shown.out
    assert "gateway.filters.1.classifier.api_key" in shown.out
    assert "${KEY}" in shown.out
    assert "hunter2" not in shown.out


MISTAKES = {
    "a bad pattern": ("filters: [{name: numbers, patterns: ['(unclosed']}]", ["'numbers'", "(unclosed"]),
    "a list that is not there": ("filters: [{name: words, terms_file: no.txt}]", ["'words'", "no.txt"]),
    "a tokenizer that is not there": (
        "prompt_truth: {tokenizer: nowhere}",
        ["deployments.chat.prompt_truth: ", "nowhere does not exist"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check_tries_filters_and_tokenizers(run: Run, mistake: str) -> None:
    """What only shows when a filter is compiled or a tokenizer loaded is told by the check."""
    section, words = MISTAKES[mistake]
    Path("inferry.yaml").write_text(f"deployments: {{chat: {{engine: simulated, {section}}}}}\n")
    refused = run("config", "check")
    assert refused.code == 1
    for word in words:
        assert word in refused.err


@pytest.mark.parametrize(("library", "section"), [
    ("re2", "filters: [{name: numbers, patterns: ['[0-9]{4}']}]"),
    ("tokenizers", "prompt_truth: {tokenizer: nowhere}"),
])  # fmt: skip
def test_check_names_what_is_not_installed(
    run: Run, monkeypatch: pytest.MonkeyPatch, library: str, section: str
) -> None:
    """A library that a filter or the prompt's count needs is asked for at once, with the command that brings it."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "inferry.gateway.filters.pattern_matcher", raising=False)
    Path("inferry.yaml").write_text(f"deployments: {{chat: {{engine: simulated, {section}}}}}\n")
    refused = run("config", "check")
    assert refused.code == 1
    assert "pip install 'inferry[" in refused.err


@pytest.mark.usefixtures("outside")
def test_show_prints_values_and_origins(run: Run) -> None:
    """Each value in effect has its line, or says that it is the default or from the environment."""
    lines = {line.split(": ")[0]: line for line in run("config", "show").out.splitlines()}
    words = {key: " ".join(line.split()) for key, line in lines.items()}
    assert words["deployments.out.model"] == 'deployments.out.model: "m" # inferry.yaml:5'
    assert words["gateway.attempts_max"] == "gateway.attempts_max: 3 # default"
    assert words["deployments.out.routing.policy"] == (
        'deployments.out.routing.policy: "least_connections" # default'
    )
    assert words["gateway.listen"] == (
        'gateway.listen: "${LISTEN:-127.0.0.1:8001}" # inferry.yaml:1, the default written there'
    )
    assert words["deployments.out.api_key"] == (
        'deployments.out.api_key: "${KEY}" # inferry.yaml:7, from the environment'
    )
    assert words["deployments.out.endpoints"].startswith(
        'deployments.out.endpoints: ["http://${HOST}/v1", "http://b:1/v1"] # inferry.yaml:6'
    )


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_show_never_prints_what_came_from_the_environment(run: Run, flags: tuple[str, ...]) -> None:
    """Secrets stay references, for people and for programs."""
    shown = run("config", "show", *flags)
    assert shown.code == 0
    assert "hunter2" not in shown.out + shown.err


@pytest.mark.parametrize("host", ["h", "${HOST:-h}"])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_show_never_prints_what_a_url_hides(run: Run, flags: tuple[str, ...], host: str) -> None:
    """A model's URL is shown without its user, password and signed query."""
    url = f"https://user:hunter2@{host}/m.gguf?signature=hunter2"
    Path("inferry.yaml").write_text(f"deployments:\n  a: {{engine: llamacpp, model: '{url}'}}\n")
    shown = run("config", "show", *flags)
    assert shown.code == 0
    assert f"{host}/m.gguf?..." in shown.out
    assert "hunter2" not in shown.out


@pytest.mark.usefixtures("outside")
def test_show_for_programs(run: Run) -> None:
    """`--json` has the same keys as the text, each with value and origin."""
    shown = json.loads(run("config", "show", "--json").out)
    assert shown["deployments.out.model"] == {"value": "m", "from": "inferry.yaml:5"}
    assert shown["gateway.body_max_bytes"] == {"value": 32 * 1024 * 1024, "from": "default"}
    assert list(shown) == [line.split(": ")[0] for line in run("config", "show").out.splitlines()]


# --- schema and version -------------------------------------------------------------------------------


def test_schema_allows_references_for_numbers(run: Run) -> None:
    """`replicas: ${N}` is right for the loader, and so it is for an editor; `replicas: two` is for neither."""
    schema = json.loads(run("config", "schema").out)
    replicas = schema["$defs"]["LlamaCppDeployment"]["properties"]["replicas"]
    number, reference = replicas["anyOf"]
    assert (number["type"], number["minimum"]) == ("integer", 1)
    assert re.search(reference["pattern"], "${N}")
    assert not re.search(reference["pattern"], "two")
    assert replicas["default"] == 1


def test_schema_is_json_schema(run: Run) -> None:
    """The schema is one JSON document that describes each key, so that editors can explain it."""
    schema = json.loads(run("config", "schema").out)
    assert schema["required"] == ["deployments"]
    assert schema["additionalProperties"] is False
    gateway = schema["$defs"]["Gateway"]["properties"]
    assert [name for name, field in gateway.items() if not field.get("description")] == []


@pytest.mark.parametrize("argv", [("version",), ("--version",)])
def test_version(run: Run, argv: tuple[str, ...]) -> None:
    """The version, in the two places where people look."""
    assert run(*argv).out == f"inferry {__version__}\n"


def test_version_for_programs(run: Run) -> None:
    """`--json` is JSON."""
    assert json.loads(run("version", "--json").out) == {"version": __version__}
