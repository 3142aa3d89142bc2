"""Names over several deployments, as people see them."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from inferry.admin.names_view import NamePlace, NameStatus
from inferry.cli.names_table import in_words, names_tables
from inferry.core.public_names import PublicName

from .conftest import Run


def shown(names: list[NameStatus]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=120).print(*names_tables(names), sep="\n")
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]


def place(deployment: str, role: str, percent: float | None, requests: int | None) -> NamePlace:
    left = None if requests is None else 0
    return NamePlace(deployment=deployment, role=role, percent=percent, requests=requests, left=left)


def test_shares_fallbacks_and_shadows_are_told_apart() -> None:
    """One row for each deployment; what a shadow answers is nobody's request, so it has no number."""
    places = [
        place("v1", "split", 90.0, 36),
        place("small", "fallback", None, 0),
        place("new", "shadow", 0.5, None),
    ]
    assert shown([NameStatus(name="chat", sticky="key", places=places)]) == [
        "NAME                DEPLOYMENT  SHARE          REQUESTS  FELL BACK",
        "chat (sticky: key)  v1          90 %                 36          0",
        "                    small       fallback              0          0",
        "                    new         shadow, 0.5 %         -          -",
    ]


def test_one_line_tells_what_a_name_does() -> None:
    """For the terminal of `inferry up`."""
    plain = PublicName.model_validate({"split": [{"deployment": "v1"}]})
    assert in_words(plain) == "v1 1"
    full = PublicName.model_validate(
        {
            "split": [{"deployment": "v1", "weight": 90}, {"deployment": "v2", "weight": 10}],
            "fallbacks": ["v1", "small"],
            "shadow": [{"deployment": "new"}],
        }
    )
    assert in_words(full) == "v1 90, v2 10; fallbacks v1, small; shadow new"


def test_without_names_there_is_no_table() -> None:
    """Who has none is shown none."""
    assert list(names_tables([])) == []


def test_a_key_for_a_name_is_no_surprise(run: Run, tmp_path: Path) -> None:
    """`keys create --deployment` takes names of `names:` without a warning, and suggests them."""
    text = "deployments:\n  v1: {engine: simulated}\nnames:\n  chat: {split: [{deployment: v1}]}\n"
    (tmp_path / "inferry.yaml").write_text("gateway: {auth: keys}\n" + text)
    assert run("keys", "create", "--tenant", "acme", "--deployment", "chat", "--json").err == ""
    warned = run("keys", "create", "--tenant", "acme", "--deployment", "chatt", "--json")
    assert warned.err == "warning: inferry.yaml has no deployment 'chatt'. Did you mean 'chat'?\n"
