"""What `inferry status` says below its table of a deployment as a whole."""

from __future__ import annotations

import pytest

from inferry.admin.rollout_view import RolloutView
from inferry.admin.status import DeploymentStatus, Status
from inferry.cli.status import _file_notes, _notes


def a_status(**more: object) -> DeploymentStatus:
    given = {
        "name": "chat", "engine": "vllm", "simulated": False, "model": "m", "status": "ready",
        "routing": "round_robin", "waiting": 0, "replicas": [],
    }  # fmt: skip
    return DeploymentStatus.model_validate({**given, **more})


def a_rollout(phase: str, because: str) -> RolloutView:
    return RolloutView(
        deployment="chat", phase=phase, reason="the file has changed", replaced=1, total=3, new=["chat-3"],
        because=because, began=1.0, ended=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "notes"),
    [
        (a_status(), []),
        (a_status(rollout=a_rollout("done", "all was well")), []),
        (a_status(scaled_by_hand=4), ["chat: scaled to 4 by hand; the file says another number"]),
        (a_status(rollout=a_rollout("canary", "")), ["chat: the file has changed, canary, 1 of 3 new"]),
        (
            a_status(rollout=a_rollout("rolled_back", "chat-3: it broke\nlast lines")),
            ["chat: the file has changed, taken back, 1 of 3 new: chat-3: it broke"],
        ),
    ],
)
def test_what_goes_on_with_a_deployment(status: DeploymentStatus, notes: list[str]) -> None:
    """Numbers by hand, rollouts that are under way or were taken back; nothing of one that is done."""
    assert list(_notes(status)) == notes


@pytest.mark.parametrize(
    ("why", "notes"),
    [
        (None, []),
        (
            "inferry.yaml:3: no such key\nDid you mean 'model'?",
            [
                "The file on disk is not in force; what ran before goes on:",
                "  inferry.yaml:3: no such key",
                "  Did you mean 'model'?",
            ],
        ),
    ],
)
def test_why_the_file_is_not_in_force(why: str | None, notes: list[str]) -> None:
    """The reason, whole lines of it; nothing where the file is what runs."""
    status = Status(
        version="0", pid=1, file="inferry.yaml", url="http://h:1", started=0.0, status="ready", generation=1,
        settled=True, deployments=[], file_not_in_force=why,
    )  # fmt: skip
    assert _file_notes(status) == notes
