"""What a pod object says, for somebody who keeps replicas: where it is, how its engine ended, what it waits for. Pure.

A life is one run of the engine's container. It is known by the pod's uid and the container's restart count: a kubelet
that starts the container again begins another life in the same pod.

ended because                             exit code                      told as
container terminated, restart count up    the container's                its reason (OOMKilled, Error, Completed)
pod deleted, evicted, preempted           137 where nobody says another  status.reason and message
node lost                                 unknown                        "its node does not answer"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferry.runtime.base import EXIT_CODE_UNKNOWN, Exit

CONTAINER = "engine"
"""What its container is called in pods that we make or render; in others, the first one counts."""
_SIGNALS = range(129, 160)
"""Exit codes by which containers tell of a signal: 128 and its number."""
_LOST = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})
"""Why the control plane gave up a pod whose node says nothing any more; such a pod may stay in the API for long."""


@dataclass(frozen=True, slots=True)
class Life:
    """One run of a container."""

    pod: str
    uid: str
    restarts: int


@dataclass(frozen=True, slots=True)
class PodEnd:
    """How a life ended."""

    exit: Exit
    because: str
    """For people."""
    in_previous_log: bool = False
    """Its container has been started again: what it printed is the previous log by now."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What there is to know of a pod."""

    life: Life
    container: str
    ip: str | None
    running: bool
    """Its container runs; whether the engine answers is for its own probes to say."""
    leaving: bool
    end: PodEnd | None
    """Of the current life, if that is over."""
    last_end: PodEnd | None
    """Of the life before."""
    waits_for: str
    """Why it does not run yet; empty: nobody says."""
    node: str | None


def read_pod(pod: Mapping[str, Any]) -> PodFacts:
    """Takes whatever an API server gives; what is missing is not there yet."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    container = _container_name(pod)
    own = _container_status(status.get("containerStatuses") or (), container)
    state = own.get("state") or {}
    life = Life(str(metadata.get("name")), str(metadata.get("uid")), int(own.get("restartCount") or 0))
    leaving = metadata.get("deletionTimestamp") is not None
    end = _end_of(status, state, leaving)
    last = (own.get("lastState") or {}).get("terminated")
    return PodFacts(
        life,
        container,
        status.get("podIP") or None,
        running="running" in state and end is None,
        leaving=leaving,
        end=end,
        last_end=None if last is None else _terminated(last, in_previous_log=True),
        waits_for=_waits_for(status, state),
        node=(pod.get("spec") or {}).get("nodeName"),
    )


def end_of_life(life: Life, facts: PodFacts | None, is_gone: bool = False) -> PodEnd | None:
    """How a life ended, by what its pod is now; None: it has not. `facts` None: there is no such pod. `is_gone`: they are
    its last ones."""
    if facts is None or facts.life.uid != life.uid:
        return PodEnd(Exit(EXIT_CODE_UNKNOWN), "its pod is gone")
    if facts.life.restarts > life.restarts:
        return facts.last_end or PodEnd(Exit(EXIT_CODE_UNKNOWN), "its container was started again", True)
    if facts.end is None and is_gone:
        return PodEnd(Exit(EXIT_CODE_UNKNOWN), "its pod is gone")
    return facts.end


def _container_name(pod: Mapping[str, Any]) -> str:
    names = [str(each.get("name")) for each in (pod.get("spec") or {}).get("containers") or ()]
    return CONTAINER if CONTAINER in names or not names else names[0]


def _container_status(statuses: Sequence[Mapping[str, Any]], container: str) -> Mapping[str, Any]:
    return next((each for each in statuses if each.get("name") == container), {})


def _end_of(status: Mapping[str, Any], state: Mapping[str, Any], leaving: bool) -> PodEnd | None:
    lost = _lost(status) if leaving or status.get("reason") == "NodeLost" else None
    terminated = state.get("terminated")
    if lost is None and terminated is None and status.get("phase") not in ("Failed", "Succeeded"):
        return None
    said = ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
    if terminated is not None:
        end = _terminated(terminated)
        return PodEnd(end.exit, f"{end.because}; {said}" if said else end.because)
    if lost is not None:
        return PodEnd(Exit(EXIT_CODE_UNKNOWN), lost)
    return PodEnd(Exit(EXIT_CODE_UNKNOWN), f"its pod ended ({said or status.get('phase')})")


def _lost(status: Mapping[str, Any]) -> str | None:
    if status.get("reason") == "NodeLost":
        return f"its node does not answer: {status.get('message') or 'NodeLost'}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("reason") in _LOST:
            return f"its node does not answer: {condition.get('message') or condition['reason']}"
    return None


def _terminated(terminated: Mapping[str, Any], in_previous_log: bool = False) -> PodEnd:
    code = int(terminated.get("exitCode") or 0)
    reason = str(terminated.get("reason") or "Error")
    words = {
        "OOMKilled": "the kernel killed it for using more memory than its limit (OOMKilled): raise the container's "
        "memory limit, or lower what the engine takes",
        "ContainerCannotRun": "its container can't run (ContainerCannotRun)",
        "StartError": "its container can't be started (StartError)",
    }.get(reason, f"its container ended ({reason}, exit code {code})")
    if message := terminated.get("message"):
        words += f": {message}"
    return PodEnd(Exit(128 - code if code in _SIGNALS else code), words, in_previous_log)


def _waits_for(status: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """In an operator's words, with the API's own in brackets, so that both can be searched for."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node takes it ({condition.get('reason')}): {condition.get('message') or 'nobody says why'}"
    for each in status.get("initContainerStatuses") or ():
        waiting = (each.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing"):
            return f"its first container '{each.get('name')}' waits: {_waiting(waiting)}"
    return _waiting(state["waiting"]) if state.get("waiting") else ""


def _waiting(waiting: Mapping[str, Any]) -> str:
    reason = str(waiting.get("reason") or "")
    words = {
        "ImagePullBackOff": "its image can't be pulled",
        "ErrImagePull": "its image can't be pulled",
        "InvalidImageName": "its image's name is not one",
        "ErrImageNeverPull": "its image is not on the node, and must not be pulled",
        "CrashLoopBackOff": "it ended again and again, and the kubelet waits before the next start",
        "CreateContainerConfigError": "a Secret or ConfigMap that it needs is not there",
        "CreateContainerError": "its container can't be made",
        "ContainerCreating": "its container is being made",
        "PodInitializing": "what runs before it is not done",
    }.get(reason, "it waits")
    said = f": {waiting['message']}" if waiting.get("message") else ""
    return f"{words} ({reason}){said}" if reason else f"{words}{said}"
