"""`inferry models`, as typed: what it prints, and how it fails."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inferry.cli.models import app, rich_progress
from inferry.core.errors import ConfigError, ModelFetchFailed, ModelNotFound
from inferry.models.progress import phase

BODY = bytes(range(256)) * 1000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `inferry models ...`; our errors pass through, as `main` expects."""
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path / "home"))

    def invoke(*argv: str, typed: str | None = None) -> Any:
        result = CliRunner().invoke(app, argv, input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_pull_list_verify_rm(run: Any, server: Any, send_file: Any) -> None:
    """A model's life: fetched, here already, listed, intact, deleted."""
    server.answers = [send_file(BODY)]
    url = f"{server.url}/m.gguf"
    first = run("pull", url)
    assert f"{url} is here: 256.0 kB" in first.stdout
    assert hashlib.sha256(BODY).hexdigest() in first.stdout
    assert "m.gguf: 256.0 kB\n  25 %\n" in first.stderr
    assert "is here already" in run("pull", url).stdout
    assert len(server.seen) == 1
    assert url in run("list").stdout
    assert f"{url}: intact" in run("verify").stdout
    assert "256.0 kB freed" in run("rm", url, "--yes").stdout
    assert "no models yet" in run("list").stdout


def test_list_for_programs(run: Any, server: Any, send_file: Any) -> None:
    """`--json` gives the path and the checksum, and an empty array for an empty store."""
    assert json.loads(run("list", "--json").stdout) == []
    server.answers = [send_file(BODY)]
    run("pull", f"{server.url}/m.gguf")
    (model,) = json.loads(run("list", "--json").stdout)
    assert Path(model["path"]).read_bytes() == BODY
    assert model["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert model["size_bytes"] == len(BODY)


def test_rm_asks_first(run: Any, server: Any, send_file: Any) -> None:
    """Without --yes a 'no' keeps the model."""
    server.answers = [send_file(BODY)]
    url = f"{server.url}/m.gguf"
    run("pull", url)
    assert run("rm", url, typed="n\n").exit_code == 1
    assert url in run("list").stdout
    assert run("rm", url, typed="y\n").exit_code == 0


def test_rm_also_takes_what_a_broken_pull_left(run: Any, server: Any, send_file: Any) -> None:
    """The space of an unfinished pull can be had back; only then is there nothing left to delete."""
    server.answers = [send_file(BODY, cut_after=50_000)]
    url = f"{server.url}/m.gguf"
    with pytest.raises(ModelFetchFailed):
        run("pull", url)
    assert "freed" in run("rm", url, "-y").stdout
    with pytest.raises(ModelNotFound):
        run("rm", url, "-y")


def test_verify_names_what_is_damaged(run: Any, server: Any, send_file: Any) -> None:
    """A changed byte is found, and the message says how to repair it."""
    server.answers = [send_file(BODY)]
    run("pull", f"{server.url}/m.gguf")
    (model,) = json.loads(run("list", "--json").stdout)
    Path(model["path"]).write_bytes(BODY[::-1])
    with pytest.raises(ModelFetchFailed, match=r"sha256 differs.*\n.*models rm"):
        run("verify", f"{server.url}/m.gguf")


def test_a_source_that_is_none_is_a_config_error(run: Any) -> None:
    """A slip in the source is answered with the known forms."""
    with pytest.raises(ConfigError, match="Use one of: hf:"):
        run("pull", "model.gguf")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_speaks_to_stderr_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar on a terminal, lines elsewhere; stdout stays clean, for known and unknown sizes."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    progress = rich_progress()
    for total_bytes in (1000, None, 0):
        with phase(progress, "tiny.gguf [x]", total_bytes):
            progress.advance(total_bytes or 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tiny.gguf [x]" in err
