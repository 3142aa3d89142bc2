"""How many tokens will a request take? Learned per deployment from the engine's own counts; for reservations only."""

from __future__ import annotations

LEARN = 0.05
"""Share of the newest answer in the moving averages: about the last 40 count."""
TOKENS_PER_BYTE_FIRST = 0.3
"""English text has about 0.25 tokens a byte; the JSON around short messages makes it less, other scripts more."""
COMPLETION_TOKENS_FIRST = 256
COMPLETION_TOKENS_MIN = 16


class TokenEstimates:
    """Moving averages of one deployment."""

    __slots__ = ("_completion_tokens", "_tokens_per_byte")

    def __init__(self) -> None:
        self._tokens_per_byte = TOKENS_PER_BYTE_FIRST
        self._completion_tokens = float(COMPLETION_TOKENS_FIRST)

    def prompt_tokens(self, body_bytes: int) -> int:
        """Of a request whose body has so many bytes."""
        return int(body_bytes * self._tokens_per_byte) + 1

    def completion_tokens(self, max_tokens: int | None, choices: int) -> int:
        """The most that the client asks for; where it does not say, what answers take here."""
        if max_tokens is None:
            return choices * max(COMPLETION_TOKENS_MIN, int(self._completion_tokens))
        return choices * max_tokens

    def learn(self, body_bytes: int, prompt_tokens: int, completion_tokens: int) -> None:
        """The engine's count of one whole answer."""
        if body_bytes:
            self._tokens_per_byte += LEARN * (prompt_tokens / body_bytes - self._tokens_per_byte)
        self._completion_tokens += LEARN * (completion_tokens - self._completion_tokens)
