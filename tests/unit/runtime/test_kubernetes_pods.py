"""Pod objects are read in words that an operator can use, and each life of a container is told from the next."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.runtime.base import EXIT_CODE_UNKNOWN
from inferry.runtime.kubernetes.pods import Life, end_of_life, read_pod

LIFE = Life("chat-abc", "u1", 0)


def pod(state: dict[str, Any] | None = None, restarts: int = 0, **status: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"name": "engine", "restartCount": restarts, "state": state or {"running": {}}}
    if "last" in status:
        own["lastState"] = {"terminated": status.pop("last")}
    metadata: dict[str, Any] = {"name": "chat-abc", "uid": status.pop("uid", "u1")}
    if status.pop("leaving", False):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "sidecar"}, {"name": "engine"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.9",
            "containerStatuses": [{"name": "sidecar", "restartCount": 7}, own],
            **status,
        },
    }


def test_a_running_pod_has_an_address_and_no_end() -> None:
    """The engine's container counts, whatever runs beside it."""
    facts = read_pod(pod())
    assert (facts.ip, facts.running, facts.leaving, facts.container) == ("10.0.0.9", True, False, "engine")
    assert facts.life == LIFE
    assert end_of_life(LIFE, facts) is None


@pytest.mark.parametrize(
    ("now", "code", "words"),
    [
        (pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), -9, "memory limit"),
        (pod({"terminated": {"exitCode": 3, "reason": "Error"}}), 3, "exit code 3"),
        (pod(restarts=1, last={"exitCode": 139, "reason": "Error"}), -11, "exit code 139"),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), EXIT_CODE_UNKNOWN, "low on memory"),
        (pod(uid="u2"), EXIT_CODE_UNKNOWN, "gone"),
        (pod(reason="NodeLost", message="node-1 is silent"), EXIT_CODE_UNKNOWN, "node-1 is silent"),
        (
            pod(leaving=True, conditions=[{"type": "DisruptionTarget", "reason": "DeletionByTaintManager"}]),
            EXIT_CODE_UNKNOWN,
            "node does not answer",
        ),
    ],
)
def test_each_way_to_end_has_its_code_and_words(now: dict[str, Any], code: int, words: str) -> None:
    """Killed, failed, started again, evicted, replaced, lost."""
    end = end_of_life(LIFE, read_pod(now))
    assert end is not None
    assert end.exit.code == code
    assert words in end.because


def test_a_restarted_container_is_another_life() -> None:
    """The old one is over, with its log behind `previous`; the new one is not."""
    facts = read_pod(pod(restarts=2, last={"exitCode": 1, "reason": "Error"}))
    old = end_of_life(LIFE, facts)
    assert old is not None
    assert old.in_previous_log
    assert end_of_life(facts.life, facts) is None


def test_a_polite_deletion_is_no_end_yet() -> None:
    """It finishes what it has; it ends when its container does."""
    facts = read_pod(pod(leaving=True))
    assert facts.leaving
    assert end_of_life(LIFE, facts) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}), "image can't be pulled"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}), "ended again and again"),
        (
            pod(
                {},
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes: 2 Insufficient nvidia.com/gpu",
                    }
                ],
            ),
            "2 Insufficient nvidia.com/gpu",
        ),
    ],
)
def test_what_it_waits_for_is_said(now: dict[str, Any], words: str) -> None:
    """Image, crashes, nodes: in words, with what the cluster says itself."""
    assert words in read_pod(now).waits_for


def test_a_pod_of_which_nothing_is_known_yet() -> None:
    """Just made: no status at all."""
    facts = read_pod({"metadata": {"name": "chat-abc", "uid": "u1"}})
    assert (facts.ip, facts.running, facts.end, facts.waits_for) == (None, False, None, "")
