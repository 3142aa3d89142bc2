"""A replica failed this request: try another one, or tell the client?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    because: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    because: str


def decide_retry(*, answer_begun: bool, attempts: int, attempts_max: int, others: int) -> Retry | GiveUp:
    """`others`: replicas that take requests and have not been tried for this one.

    A request is safe to send again as long as the client has seen nothing of an answer: generating text
    changes nothing outside the engine.
    """
    if answer_begun:
        return GiveUp("part of the answer has gone out")
    if attempts >= attempts_max:
        return GiveUp(f"tried {attempts} times, the most that gateway.attempts_max allows")
    if others <= 0:
        return GiveUp("no other replica takes requests")
    return Retry(f"{others} other replica{'s' if others != 1 else ''} can take it")
