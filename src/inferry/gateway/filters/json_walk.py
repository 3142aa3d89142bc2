"""Goes over the texts of a JSON value and puts others in their place; everything else stays byte for byte.

Each container is opened one level at a time (msgspec.Raw), so a value that nobody changes is never read into
objects and written again. Where a container changes, only the white space between its members is lost. Of a key
that stands twice the last one counts, as for the engines' own parsers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Raw

from inferry.gateway.filters.argument_text import ArgumentText
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.running_text import RunningText

Members = dict[str, Raw]
decode_members = msgspec.json.Decoder(Members).decode
decode_items = msgspec.json.Decoder(list[Raw]).decode
decode_text = msgspec.json.Decoder(str).decode
encode = msgspec.json.encode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a walk raises when the JSON is none."""

_QUOTE, _BRACE, _BRACKET = b'"{['
_NOT_TEXT = frozenset({"model", "type", "object", "encrypted_content", "signature"})
_ROLES = frozenset({b'"system"', b'"developer"', b'"user"', b'"assistant"', b'"tool"', b'"function"'})
"""Any other role is looked at like a text: chat templates print what stands there."""
# They spell the text once more, in pieces.
_SPELLED = ("logprobs", "token_ids", "prompt_logprobs")
_OPAQUE_KEYS = frozenset({"url", "image_url", "video_url", "audio_url", "file_url", "file_data"})
OnText = Callable[[str, str], None]
OnMember = Callable[[str, str, Mapping[str, Raw]], None]


class Blocks(Exception):
    """A rule that blocks found something: the walk ends."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.name)
        self.rule = rule


class Walk:
    """One body. Afterwards `flags`, `masked_by` and `chars` say what was met."""

    def __init__(
        self,
        rules: Sequence[Rule],
        leave: frozenset[str] = frozenset(),
        on_text: OnText | None = None,
        on_member: OnMember | None = None,
    ) -> None:
        """`leave`: more keys whose texts are not looked at. `on_text(key, text)`: hears of each text.
        `on_member(container's key, key, container)`: hears of each string member before that."""
        self._rules = rules
        self._leave = _NOT_TEXT | leave
        self._on_text = on_text
        self._on_member = on_member
        self.flags: set[str] = set()
        self.masked_by: set[str] = set()
        self.chars = 0

    def value(self, raw: Raw | bytes, key: str = "") -> Raw | None:
        """`raw` with its texts replaced; None: nothing changed. Raises Blocks, and UNREADABLE."""
        first = memoryview(raw)[0]
        if first == _QUOTE:
            text = decode_text(raw)
            changed = self.text(text, key == "arguments", key)
            return None if changed == text else Raw(encode(changed))
        if first == _BRACE:
            members = decode_members(raw)
            return Raw(encode(members)) if self.members(members, key) else None
        if first == _BRACKET:
            items = decode_items(raw)
            any_changed = False
            for index, item in enumerate(items):
                if (new := self.value(item, key)) is not None:
                    items[index] = new
                    any_changed = True
            return Raw(encode(items)) if any_changed else None
        return None

    def members(self, members: Members, key: str = "") -> bool:
        """Replace in place; whether anything changed."""
        any_changed = False
        tool_use = b"tool_use" in bytes(members.get("type", b""))
        for name, raw in members.items():
            if name in self._leave or name in _SPELLED or (name == "role" and bytes(raw) in _ROLES):
                continue
            first = memoryview(raw)[0]
            if first == _QUOTE:
                if self._on_member is not None:
                    self._on_member(key, name, members)
                if is_opaque(name, raw, members):
                    continue
            if tool_use and name == "input" and first == _BRACE:
                source = bytes(raw).decode()
                changed = self.text(source, True, name)
                new = None if changed == source else Raw(changed.encode())
            else:
                new = self.value(raw, name)
            if new is not None:
                members[name] = new
                any_changed = True
        if any_changed:
            drop_spelled(members)
        return any_changed

    def text(self, text: str, is_arguments: bool, key: str) -> str:
        """`text` after all rules."""
        self.chars += len(text)
        if self._on_text is not None:
            self._on_text(key, text)
        if not self._rules or not text:
            return text
        running = ArgumentText(self._rules) if is_arguments else RunningText(self._rules)
        out = running.feed(text, final=True)
        self.flags |= running.flags
        self.masked_by |= running.masked_by
        if running.blocked_by is not None:
            raise Blocks(running.blocked_by)
        return out


def drop_spelled(members: Members) -> None:
    """Take out what tells a changed text a second time: log-probabilities and token ids."""
    for name in _SPELLED:
        if name in members:
            members[name] = Raw(b"[]" if memoryview(members[name])[0] == _BRACKET else b"null")


def is_opaque(name: str, raw: Raw, members: Mapping[str, Raw]) -> bool:
    """Whether the string `name` is a file's content, which is no text to look at."""
    if name in _OPAQUE_KEYS:
        return bytes(memoryview(raw)[1:6]).lower() == b"data:" or name == "file_data"
    return name == "data" and ("format" in members or bytes(members.get("type", b"")) == b'"base64"')
