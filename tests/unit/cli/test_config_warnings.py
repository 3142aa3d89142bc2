"""What `inferry config check` warns of: the file is right, and a key in it does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.config_warnings import warnings_of
from inferry.core.config_file import parse_text

from .conftest import Run

OUTSIDE = "deployments:\n  a:\n    engine: openai\n    model: m\n    endpoints: [http://h:1/v1]\n"
CHAT = "deployments:\n  a:\n    engine: simulated\n"
KEY = "inferry.yaml:4: deployments.a."


def warned(text: str) -> list[str]:
    return warnings_of(parse_text(text, Path("inferry.yaml"), {}))


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            CHAT + "    rollout: {max_unavailable: 2}\n",
            [
                f"{KEY}rollout.max_unavailable has no effect with 'strategy: surge' (the default): drop it, or "
                "write 'strategy: in_place'"
            ],
        ),
        (
            CHAT + "    rollout: {strategy: in_place, max_surge: 2, max_unavailable: 2}\n",
            [f"{KEY}rollout.max_surge has no effect with 'strategy: in_place': drop one of them"],
        ),
        (
            CHAT + "    load_wait_s: 5\n    loaded_min_s: 5\n",
            [
                f"{KEY}load_wait_s has no effect without 'load: on_demand': add that, or drop it",
                "inferry.yaml:5: deployments.a.loaded_min_s has no effect without 'load: on_demand': add that, or "
                "drop it",
            ],
        ),
        (
            CHAT + "    standby: 1\n    load: on_demand\n",
            [
                f"{KEY}standby does nothing while the model is not loaded ('load: on_demand'): load it 'at_start', "
                "or drop it"
            ],
        ),
        (
            OUTSIDE + "    failover: {token_ids: true}\n",
            [
                "inferry.yaml:6: deployments.a.failover.token_ids has no effect with 'engine: openai', which tells "
                "no ids: drop it"
            ],
        ),
        (
            CHAT + "    failover: {token_ids: true, resume: false, resumes_max: 2}\n",
            [
                f"{KEY}failover.token_ids has no effect with 'resume: false': drop one of them",
                f"{KEY}failover.resumes_max has no effect with 'resume: false': drop one of them",
            ],
        ),
    ],
)
def test_a_key_that_does_nothing(text: str, warnings: list[str]) -> None:
    """It is named with its line, and so is the key because of which it does nothing."""
    assert warned(text) == warnings


@pytest.mark.parametrize(
    "text",
    [
        CHAT,
        CHAT + "    load: on_demand\n    load_wait_s: 5\n    loaded_min_s: 5\n",
        CHAT + "    rollout: {strategy: in_place, max_unavailable: 2}\n    standby: 1\n",
        CHAT + "    failover: {token_ids: true, resumes_max: 2}\n",
        OUTSIDE + "    failover: {resume: false}\n",
    ],
)
def test_keys_that_do_something(text: str) -> None:
    """Defaults are not warned of, nor is what has its effect."""
    assert warned(text) == []


def test_the_check_passes_with_warnings(run: Run) -> None:
    """Warnings go to stderr; the file is right all the same."""
    Path("inferry.yaml").write_text(CHAT + "    load_wait_s: 5\n")
    shown = run("config", "check")
    assert (shown.code, shown.out) == (0, "inferry.yaml is right: 1 deployment(s): a\n")
    assert shown.err.startswith(f"warning: {KEY}load_wait_s has no effect")
