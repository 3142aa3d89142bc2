"""How many tokens will a request take? Learned per deployment from the engine's own counts; for reservations only.

All tenants of a deployment teach the same averages, so each answer can move them only a little, and only within
what text can be. A hard cap goes by no average: see `capped_prompt_tokens`.
"""

from __future__ import annotations

LEARN = 0.05
"""Share of the newest answer in the moving averages: about the last 40 count."""
TOKENS_PER_BYTE_FIRST = 0.3
"""English text has about 0.25 tokens a byte; the JSON around short messages makes it less, other scripts more."""
TOKENS_PER_BYTE_MIN = 0.05
TOKENS_PER_BYTE_MAX = 0.6
STRANGE_FACTOR = 2.0
"""So far beyond these bounds it is not text that was counted: files, a long template around few words, a faulty
engine."""
CAPPED_TOKENS_PER_BYTE = 0.25
COMPLETION_TOKENS_FIRST = 256
COMPLETION_TOKENS_MIN = 16
COMPLETION_TOKENS_MAX = 4096
"""A longer answer teaches no more than this: else one tenant's long ones would use up the others' limits."""
_MEDIA = (b"data:", b"image_url", b"input_audio", b"input_image", b"video_url", b"audio_url", b'"source"')


def capped_prompt_tokens(body_bytes: int) -> int:
    """What `prompt_tokens_max` is compared with: a quarter token per byte of the body, whoever sends it."""
    return int(body_bytes * CAPPED_TOKENS_PER_BYTE)


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

    def learn(self, body: bytes, prompt_tokens: int, completion_tokens: int) -> None:
        """The engine's count of one whole answer to `body`."""
        if body:
            ratio = prompt_tokens / len(body)
            if TOKENS_PER_BYTE_MIN <= ratio <= TOKENS_PER_BYTE_MAX or _is_text(body, ratio):
                ratio = min(max(ratio, TOKENS_PER_BYTE_MIN), TOKENS_PER_BYTE_MAX)
                self._tokens_per_byte += LEARN * (ratio - self._tokens_per_byte)
        taught = min(completion_tokens, COMPLETION_TOKENS_MAX)
        self._completion_tokens += LEARN * (taught - self._completion_tokens)


def _is_text(body: bytes, ratio: float) -> bool:
    """Whether an unusual ratio is still one of text."""
    if not TOKENS_PER_BYTE_MIN / STRANGE_FACTOR <= ratio <= TOKENS_PER_BYTE_MAX * STRANGE_FACTOR:
        return False
    return not any(sign in body for sign in _MEDIA)
