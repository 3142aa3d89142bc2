"""Checks in passing that engines computed the prompts they were sent; the counting is done in a thread.

    start ── counted ──► verdict(engine's count): a Finding, in time for a warning or a refusal
      │         ▲
      │         └─────── verdict came first: the Finding goes to the counts alone
      └─ no room, no sample, nothing to compare: None, and the request goes its way

One worker per gateway process, with a bounded queue: what has no room is dropped and counted. The event loop's
thread owns everything here but the loaded counters, which are the worker's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from inferry.core.clock import Clock, local_text
from inferry.core.errors import ConfigError, ContextLengthExceeded, PromptMismatch, Rejected
from inferry.core.prompt_truth_settings import PromptTruth
from inferry.core.request import Route
from inferry.gateway.prompt_counter import Counted, load_counter
from inferry.gateway.prompt_reader import PROMPT_ROUTES, Skipped
from inferry.policy.prompt_truth import Finding, FindingKind, LearnedLimit, decide_finding

log = structlog.get_logger()

HEADER = b"x-inferry-warning"
WAIT_MAX_S = 0.05
"""Longest that an answer, or a prompt that may be too long, waits for its count: twice what 10,000 tokens take."""
_INEXACT_SHARE = 10
"""One token in so many may differ where engines write parts of a prompt in their own way."""
_PENDING_MAX = 64
_PENDING_BYTES_MAX = 16 * 1024 * 1024
_BODY_BYTES_MAX = 4 * 1024 * 1024
"""The worst text takes 1 us per byte (measured), and a shutdown waits for the one that is being counted."""
_SKIPPED, _DROPPED, _FAILED = "skipped", "dropped", "failed"


@dataclass(frozen=True, slots=True)
class PromptTruthSpec:
    """One deployment's settings, and where its tokenizer is. Plain data."""

    settings: PromptTruth
    source: str
    """`settings.tokenizer`, or the GGUF file that the engine loads."""


class Counter(Protocol):
    def count(self, route: Route, body: bytes) -> Counted | Skipped: ...


Load = Callable[[Path, Callable[[str], str]], Counter]


class PromptChecks:
    """All checks of one gateway process."""

    def __init__(
        self,
        specs: Mapping[str, PromptTruthSpec],
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        load: Load = load_counter,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self._load = load
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="prompt-truth")
        self._pending = 0
        self._pending_bytes = 0
        self._closed = False
        self.counts: dict[tuple[str, str], int] = {}
        """By deployment and finding; and skipped, dropped (no room) and failed (no tokenizer)."""
        self._watched: dict[str, _Watched] = {}
        self.configure(specs)

    def configure(self, specs: Mapping[str, PromptTruthSpec]) -> None:
        """Take new settings, at a reload. What was learned of deployments that stay as they are stays."""
        before, self._watched = self._watched, {}
        for name, spec in specs.items():
            watched = before.get(name)
            if watched is None or watched.spec != spec:
                watched = _Watched(name, spec)
                # Now, so that the first request finds it loaded.
                self.loop.run_in_executor(self._executor, self._loaded, watched)
            self._watched[name] = watched

    def start(self, deployment: str, route: Route, body: bytes) -> PromptCheck | None:
        """Begin to count a request's prompt; None if it is not to be checked. Never blocks.

        `body` as the client sent it, or as the engine gets it: the model's name is no part of a prompt.
        """
        watched = self._watched.get(deployment)
        if watched is None or self._closed or route not in PROMPT_ROUTES:
            return None
        limit = watched.limit.tokens(self.clock.now_s())
        # A token takes at least one byte of the body.
        may_exceed = limit is not None and len(body) > limit
        if not watched.takes_sample() and not may_exceed:
            return None
        full = self._pending >= _PENDING_MAX or self._pending_bytes + len(body) > _PENDING_BYTES_MAX
        if full or len(body) > _BODY_BYTES_MAX:
            self.add(deployment, _DROPPED)
            return None
        self._pending += 1
        self._pending_bytes += len(body)
        check = PromptCheck(self, watched, may_exceed)
        future = self.loop.run_in_executor(self._executor, self._count, watched, route, body)
        future.add_done_callback(lambda done: self._on_counted(check, len(body), done))
        return check

    def add(self, deployment: str, finding: str) -> None:
        """Count one finding."""
        key = (deployment, finding)
        self.counts[key] = self.counts.get(key, 0) + 1

    async def close(self) -> None:
        """Finish what is being counted, drop the rest, end the thread."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    # --- in the worker's thread -----------------------------------------------------------------------

    def _count(self, watched: _Watched, route: Route, body: bytes) -> Counted | Skipped | ConfigError:
        counter = self._loaded(watched)
        return counter if isinstance(counter, ConfigError) else counter.count(route, body)

    def _loaded(self, watched: _Watched) -> Counter | ConfigError:
        if watched.counter is None:
            try:
                watched.counter = self._load(Path(watched.spec.source), self._now_text)
            except ConfigError as error:
                watched.counter = error
            except Exception as error:
                log.exception("prompt_truth_broke", deployment=watched.name)
                watched.counter = ConfigError(f"the tokenizer can't be loaded: {error}")
        return watched.counter

    def _now_text(self, layout: str) -> str:
        return local_text(self.clock.wall_s(), layout)

    # --- in the loop's thread -------------------------------------------------------------------------

    def _on_counted(
        self, check: PromptCheck, body_bytes: int, done: asyncio.Future[Counted | Skipped | ConfigError]
    ) -> None:
        self._pending -= 1
        self._pending_bytes -= body_bytes
        if done.cancelled():  # the gateway goes down
            return
        if (fault := done.exception()) is not None:
            log.error("prompt_truth_broke", deployment=check.deployment, exc_info=fault)
            check.on_counted(None)
            self.add(check.deployment, _FAILED)
            return
        counted = done.result()
        if isinstance(counted, Skipped):
            check.tell_once("prompt_not_checked", reason=counted.because)
            self.add(check.deployment, _SKIPPED)
        elif isinstance(counted, ConfigError):
            check.tell_once("prompt_truth_is_off", reason=counted.message)
            self.add(check.deployment, _FAILED)
        check.on_counted(counted if isinstance(counted, Counted) else None)


class _Watched:
    """What is known of one deployment."""

    def __init__(self, name: str, spec: PromptTruthSpec) -> None:
        self.name = name
        self.spec = spec
        self.limit = LearnedLimit()
        self.counter: Counter | ConfigError | None = None
        """The worker's; or why it can't be loaded."""
        self.told: set[tuple[str, str]] = set()
        """What stands in the log already."""
        self._due = 0.0

    def takes_sample(self) -> bool:
        """Every so many requests, evenly."""
        self._due += self.spec.settings.sample
        if self._due < 1:
            return False
        self._due -= 1
        return True


class PromptCheck:
    """One request's prompt. Ask it in the order of its methods; each may be left out."""

    __slots__ = ("_checks", "_counted", "_engine_tokens", "_then", "_watched", "is_counted", "may_exceed")

    def __init__(self, checks: PromptChecks, watched: _Watched, may_exceed: bool) -> None:
        self._checks = checks
        self._watched = watched
        self.may_exceed = may_exceed
        """The deployment's engines cut prompts, and this one may be longer than what they leave: worth waiting
        for `foreseen` before it is sent."""
        self.is_counted = False
        """Counted, or found impossible to count: waiting brings no more."""
        self._counted: Counted | None = None
        self._engine_tokens: int | None = None
        self._then: Callable[[], None] | None = None

    @property
    def deployment(self) -> str:
        return self._watched.name

    @property
    def rejects(self) -> bool:
        """The file says: refuse what is found, if nothing has been sent yet."""
        return self._watched.spec.settings.action == "reject"

    def when_counted(self, then: Callable[[], None], wait_max_s: float = WAIT_MAX_S) -> None:
        """Call `then` once: now if it is counted, else when it is, or after `wait_max_s`."""
        if self.is_counted:
            then()
            return
        timer = self._checks.loop.call_later(wait_max_s, self._go_on)

        def on_time() -> None:
            timer.cancel()
            then()

        self._then = on_time

    def foreseen(self) -> Finding | None:
        """That the engine will cut this prompt, as it did with others; None: it will not, or that is not known."""
        checks, counted = self._checks, self._counted
        limit = self._watched.limit.tokens(checks.clock.now_s())
        if counted is None or limit is None:
            return None
        if counted.tokens <= limit + self._watched.spec.settings.tolerance_tokens:
            return None
        return Finding(FindingKind.TRUNCATED, limit, counted.tokens)

    def verdict(self, engine_tokens: int) -> Finding | None:
        """What the engine's `prompt_tokens` mean, and count it; None: not counted yet, or can't be counted. Call
        it once, as soon as they are known."""
        self._engine_tokens = engine_tokens
        return self._decide() if self.is_counted else None

    # --- from PromptChecks ----------------------------------------------------------------------------

    def on_counted(self, counted: Counted | None) -> None:
        """The worker is through."""
        self.is_counted = True
        self._counted = counted
        if self._engine_tokens is not None:
            self._decide()
        self._go_on()

    def tell_once(self, event: str, reason: str, **counts: int) -> None:
        """Log what happens to a deployment's prompts; `reason` is none of the client's words."""
        if (event, reason) not in self._watched.told:
            self._watched.told.add((event, reason))
            log.warning(event, deployment=self.deployment, reason=reason, **counts)

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _decide(self) -> Finding | None:
        counted, engine_tokens = self._counted, self._engine_tokens
        if counted is None or engine_tokens is None:
            return None
        watched, now_s = self._watched, self._checks.clock.now_s()
        tolerance_tokens = watched.spec.settings.tolerance_tokens
        if not counted.exact:
            tolerance_tokens = max(tolerance_tokens, counted.tokens // _INEXACT_SHARE)
        finding = decide_finding(
            engine_tokens,
            counted.tokens,
            begins_with_bos=counted.begins_with_bos and counted.exact,
            tolerance_tokens=tolerance_tokens,
            limit_tokens=watched.limit.tokens(now_s),
        )
        watched.limit.learn(finding, now_s)
        self._checks.add(watched.name, finding.kind.value)
        if finding.kind is not FindingKind.OK:
            self.tell_once(
                "prompt_differs", finding.kind.value, engine=engine_tokens, expected=counted.tokens
            )
        return finding


def rejection(finding: Finding) -> Rejected:
    """The error in place of an answer to another prompt than the client's."""
    engine, expected = finding.engine_tokens, finding.expected_tokens
    if finding.kind is FindingKind.TRUNCATED:
        return ContextLengthExceeded(
            f"The prompt has {expected} tokens, and the engine computes only {engine} of them: send a shorter one, "
            "or have the engine's context made longer.",
            param="messages",
        )
    what = (
        "has put a second BOS token before it"
        if finding.kind is FindingKind.DOUBLED_BOS
        else "used another one"
    )
    return PromptMismatch(
        f"By the model's own template the prompt has {expected} tokens, and the engine counted {engine}: it {what}. "
        "Whoever runs the engine can set its chat template right."
    )
