"""The last part of an answer's way, where somebody must look at it first: filters, classifiers, the prompt's count.

A stream is looked at as it goes; an answer that is no stream is collected, and goes on as a whole. An answer that
nobody looks at never comes here.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from inferry.core.errors import InferryError
from inferry.gateway.account import Account
from inferry.gateway.answer import Answer
from inferry.gateway.engine_error_body import ErrorOut
from inferry.gateway.entry import Entry
from inferry.gateway.filters.answer_filter import blocked_answer
from inferry.gateway.filters.classifier_call import CheckCalls, ClassifierPools, Guards
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.stream_filter import StreamFilter
from inferry.gateway.filters.verdict import Blocked, Masked, Verdict
from inferry.gateway.host import Host
from inferry.gateway.prompt_truth import HEADER, PromptCheck, rejection

HELD_BYTES_MAX = 1024 * 1024
"""More than this does not wait for an outside verdict: the engine is not read meanwhile."""


class Relay(Protocol):
    """The exchange."""

    def forward(self, data: bytes, complete: bool) -> None:
        """Send on."""

    def forward_whole(self, body: bytes, lines: bytes) -> None:
        """Send the whole answer, with these header lines besides."""

    def end_filtered(self, data: bytes) -> None:
        """A filter has ended the stream; `data` are its last words."""

    def refuse_answer(self, error: InferryError) -> None: ...

    def hold_upstream(self, held: bool) -> None: ...


class StreamOut:
    """A stream through its filter."""

    def __init__(
        self, relay: Relay, entry: Entry, stream: StreamFilter, pools: ClassifierPools, guards: Guards
    ) -> None:
        self._relay = relay
        self._entry = entry
        self._filter = stream
        self._pools = pools
        self._guards = guards
        self._calls: CheckCalls | None = None
        self._complete = False

    def feed(self, data: bytes, complete: bool) -> None:
        """Whole events; `complete`: there are no more."""
        stream = self._filter
        out = stream.feed(data) if data else b""
        if complete:
            self._complete = True
            out += stream.finish()
        self._send(out)

    def _send(self, data: bytes) -> None:
        stream = self._filter
        if stream.blocked is not None:
            self._entry.note("block", stream.blocked.rule)
            self._relay.end_filtered(data)
            return
        if stream.checks and self._calls is None:
            calls = self._calls = CheckCalls(stream.checks, self._pools, self._guards, self._on_verdict)
            if data:
                self._relay.forward(data, False)
            self._relay.hold_upstream(stream.held_bytes > HELD_BYTES_MAX)
            calls.start()
            return
        self._relay.hold_upstream(self._calls is not None and stream.held_bytes > HELD_BYTES_MAX)
        over = self._complete and self._calls is None
        if over:
            for rule in stream.masked:
                self._entry.note("mask", rule)
            for rule in stream.flags:
                self._entry.note("flag", rule)
        if data or over:
            self._relay.forward(data, over)

    def _on_verdict(self, verdict: Verdict) -> None:
        self._calls = None
        self._send(self._filter.resolve(verdict))

    def cancel(self) -> None:
        """The request is over."""
        self._filter.discard()
        if self._calls is not None:
            self._calls.cancel()


class WholeOut:
    """An answer that is no stream: collected, judged, sent."""

    def __init__(
        self,
        relay: Relay,
        entry: Entry,
        answer: Answer,
        filters: FilterSet | None,
        pools: ClassifierPools,
        guards: Guards,
    ) -> None:
        self._relay = relay
        self._entry = entry
        self._answer = answer
        self._filters = filters
        self._pools = pools
        self._guards = guards
        self._parts: list[bytes] = []
        self._body = b""
        self._calls: CheckCalls | None = None

    def feed(self, data: bytes, complete: bool) -> None:
        """A piece of the body."""
        self._parts.append(data)
        if complete:
            self._body = b"".join(self._parts)
            self._filter()

    def _filter(self) -> None:
        filters, entry = self._filters, self._entry
        if filters is None:
            self._check_prompt()
            return
        caller, route = entry.caller, entry.route
        if not self._take(filters.whole(route, self._body, caller.tenant, caller.key_id)):
            return
        checks = filters.pending_output(route, self._body, caller.tenant, caller.key_id)
        if checks:
            self._calls = CheckCalls(checks, self._pools, self._guards, self._on_verdict)
            self._calls.start()
        else:
            self._check_prompt()

    def _on_verdict(self, verdict: Verdict) -> None:
        self._calls = None
        if isinstance(verdict, Blocked):
            verdict = blocked_answer(verdict, self._entry.route, self._body)
        if self._take(verdict):
            self._check_prompt()

    def _take(self, verdict: Verdict) -> bool:
        self._entry.note_all(verdict)
        if isinstance(verdict, Masked):
            self._body = verdict.body
        elif isinstance(verdict, Blocked):
            if verdict.answer is None:
                self._relay.refuse_answer(verdict.error)
            else:
                self._relay.forward_whole(verdict.answer, b"")
            return False
        return True

    def _check_prompt(self) -> None:
        check = self._entry.prompt_check
        tokens = None if check is None else self._answer.prompt_tokens()
        if check is None or tokens is None:
            self._relay.forward_whole(self._body, b"")
        elif check.is_counted:
            self._judge_prompt(check, tokens)
        else:
            check.when_counted(lambda: self._judge_prompt(check, tokens))

    def _judge_prompt(self, check: PromptCheck, tokens: int) -> None:
        if self._entry.is_over:
            return
        finding = check.verdict(tokens)
        warning = None if finding is None else finding.warning()
        if finding is None or warning is None:
            self._relay.forward_whole(self._body, b"")
        elif check.rejects:
            self._relay.refuse_answer(rejection(finding))
        else:
            self._relay.forward_whole(self._body, _warning_line(warning))

    def cancel(self) -> None:
        """The request is over."""
        if self._calls is not None:
            self._calls.cancel()


WayOut: TypeAlias = StreamOut | WholeOut | ErrorOut


def way_out(relay: Relay, account: Account, gateway: Host) -> WayOut | None:
    """What an answer that has just begun must go through; None: nothing, which is the rule."""
    entry, deployment, answer, route = account.entry, account.deployment, account.answer, account.route
    assert entry is not None
    assert deployment is not None
    assert answer is not None
    caller, filters = entry.caller, deployment.filters
    if answer.is_stream:
        stream = None if filters is None else filters.stream(route, caller.tenant, caller.key_id)
        return None if stream is None else StreamOut(relay, entry, stream, gateway.classifiers, gateway)
    if filters is not None and not filters.looks_at_answers(route, caller.tenant, caller.key_id):
        filters = None
    if account.status >= 400:
        return ErrorOut(relay, account.status, route.dialect)
    if filters is None and entry.prompt_check is None:
        return None
    return WholeOut(relay, entry, answer, filters, gateway.classifiers, gateway)


def _warning_line(warning: str) -> bytes:
    return HEADER + b": " + warning.encode("ascii") + b"\r\n"
