"""What is made of an engine's last lines."""

from __future__ import annotations

import pytest

from inferry.engines.exit_cause import cause_in, exit_with_cause

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "serve.py", line 164, in _resolve_dtype',
    "ValueError: Unsupported dtype: 'bfloat17'.",
]


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (TRACEBACK, "ValueError: Unsupported dtype: 'bfloat17'."),
        (
            ["torch.OutOfMemoryError: CUDA out of memory.", "INFO bye"],
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (["error: unexpected argument '--prot' found", "For more information, try '--help'."], None),
        (
            ["\x1b[2m2026\x1b[0m \x1b[31mERROR\x1b[0m RuntimeError: \x1b[1mno\x1b[0m such file"],
            "RuntimeError: no such file",
        ),
        (["│ No such option: --devise (Possible options: --device)     │"], None),
        (["Loading weights: 100%", ""], ""),
        ([], ""),
    ],
)
def test_the_telling_line_is_found(tail: list[str], cause: str | None) -> None:
    """Exceptions and complaints about arguments are told, without colours and frames; anything else is not."""
    wanted = tail[0].strip("│ ") if cause is None else cause or None
    assert cause_in(tail) == wanted


def test_an_exception_tells_more_than_its_launcher() -> None:
    """The last exception is preferred to what a launcher says after it."""
    tail = ["RuntimeError: weights are missing", "Error: ShardCannotStart"]
    assert cause_in(tail) == "RuntimeError: weights are missing"
    assert cause_in(tail[1:]) == "Error: ShardCannotStart"


def test_long_lines_are_cut() -> None:
    """A message fits into a status line."""
    cause = cause_in(["ValueError: " + "x" * 5000])
    assert cause is not None
    assert len(cause) == 300


def test_the_message_says_code_and_cause() -> None:
    """Code first; a full GPU is called that; a signal speaks for itself."""
    assert exit_with_cause(1, TRACEBACK).startswith("the engine exited with code 1: ValueError")
    full = exit_with_cause(1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"])
    assert "not enough GPU memory (torch.OutOfMemoryError" in full
    assert exit_with_cause(-9, TRACEBACK) == "the engine was killed by SIGKILL (by hand, or out of memory)"
