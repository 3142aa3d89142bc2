"""All filters of one deployment, compiled once; what the exchange asks."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.filter_settings import Filter
from inferry.core.request import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Route
from inferry.gateway.filters.answer_filter import ANSWER_FIELD, answer_texts, filter_answer
from inferry.gateway.filters.external_check import Check, CheckWindow
from inferry.gateway.filters.request_filter import filter_request, request_texts
from inferry.gateway.filters.rule import Rule, compile_rule
from inferry.gateway.filters.stream_filter import StreamFilter
from inferry.gateway.filters.stream_messages import MessagesStream
from inferry.gateway.filters.stream_openai import ChoicesStream
from inferry.gateway.filters.stream_responses import ResponsesStream
from inferry.gateway.filters.verdict import Passed, Verdict

_STREAMS: dict[Route, type[StreamFilter]] = {
    CHAT: ChoicesStream,
    COMPLETIONS: ChoicesStream,
    RESPONSES: ResponsesStream,
    MESSAGES: MessagesStream,
}
_PASSED = Passed()


class FilterSet:
    """Immutable; one per deployment. Build it anew when the file changes: running requests keep the old one."""

    def __init__(self, settings: Sequence[Filter], compiled: dict[int, Rule] | None = None) -> None:
        """`settings`: those of the gateway, then those of the deployment. `compiled`: by the id of the settings,
        what other deployments share with this one already; added to.

        Raises ConfigError that names the filter, what is wrong with it and the way out.
        """
        if compiled is None:
            compiled = {}
        for each in settings:
            if id(each) not in compiled:
                compiled[id(each)] = compile_rule(each)
        rules = [compiled[id(each)] for each in settings]
        self._rules = rules
        self._input = _Side([rule for rule in rules if rule.settings.on != "output"])
        self._output = _Side([rule for rule in rules if rule.settings.on != "input"])

    @property
    def names(self) -> Sequence[str]:
        """For metrics: all names that a verdict can have, besides `unreadable`."""
        return [rule.name for rule in self._rules]

    @property
    def hold_back_chars_max(self) -> int:
        """No stream holds back more characters than this, per choice and field; of a tool call's arguments, one
        escape more. Streams that a classifier or guard looks at wait for its answers besides."""
        return max((rule.hold_back_chars_max for rule in self._output.local), default=0)

    def looks_at_requests(self, tenant: str, key_id: str | None) -> bool:
        """Whether `input` or `pending_input` have a rule for what this caller sends."""
        return bool(self._input.local_for(tenant, key_id) or self._input.outside_for(tenant, key_id))

    def input(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Verdict:
        """The verdict on a request; on Masked, its body goes on in place of `body`."""
        rules = self._input.local_for(tenant, key_id)
        return filter_request(rules, route, body) if rules else _PASSED

    def whole(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Verdict:
        """The verdict on the body of an answer that is not streamed."""
        if route not in ANSWER_FIELD:
            return _PASSED
        rules = self._output.local_for(tenant, key_id)
        return filter_answer(rules, route, body) if rules else _PASSED

    def looks_at_answers(self, route: Route, tenant: str, key_id: str | None) -> bool:
        """Whether `whole` or `pending_output` need the body of an answer: collect it, then."""
        if route not in ANSWER_FIELD:
            return False
        return bool(self._output.local_for(tenant, key_id) or self._output.outside_for(tenant, key_id))

    def stream(self, route: Route, tenant: str, key_id: str | None) -> StreamFilter | None:
        """A filter for one streamed answer; None when no rule looks at it: relay as ever."""
        kind = _STREAMS.get(route)
        if kind is None:
            return None
        rules = self._output.local_for(tenant, key_id)
        outside = self._output.outside_for(tenant, key_id)
        if not rules and not outside:
            return None
        return kind(rules, CheckWindow(outside) if outside else None)

    def pending_input(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Sequence[Check]:
        """Questions to ask of others before the request goes on. `body`: as `input` left it."""
        outside = self._input.outside_for(tenant, key_id)
        texts = request_texts(body) if outside else []
        return [Check(each, "request", texts) for each in outside] if texts else ()

    def pending_output(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Sequence[Check]:
        """The same for an answer that is not streamed. A Blocked verdict on it needs `blocked_answer`."""
        if route not in ANSWER_FIELD:
            return ()
        outside = self._output.outside_for(tenant, key_id)
        texts = answer_texts(route, body) if outside else []
        return [Check(each, "answer", texts) for each in outside] if texts else ()


class _Side:
    """The rules for one direction."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.local = [rule for rule in rules if not _is_outside(rule.settings)]
        self._outside = [rule for rule in rules if _is_outside(rule.settings)]
        self._for_everybody = all(rule.for_everybody for rule in rules)
        self._outside_settings = [rule.settings for rule in self._outside]

    def local_for(self, tenant: str, key_id: str | None) -> Sequence[Rule]:
        if self._for_everybody:
            return self.local
        return [rule for rule in self.local if rule.concerns(tenant, key_id)]

    def outside_for(self, tenant: str, key_id: str | None) -> Sequence[Filter]:
        if self._for_everybody:
            return self._outside_settings
        return [rule.settings for rule in self._outside if rule.concerns(tenant, key_id)]


def _is_outside(settings: Filter) -> bool:
    return settings.classifier is not None or settings.guard is not None
