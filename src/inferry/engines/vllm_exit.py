"""Why a vLLM ended, from its last lines. Seen on 0.32.0, except for those of GPUs, which are from its source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from inferry.engines.adapter import ExitReading
from inferry.engines.exit_cause import USAGE_EXIT_CODE, exit_with_cause
from inferry.engines.exit_text import exit_text

_CORE_DIED = "EngineDeadError"
_NOISE = (
    # The front end's last words when the engine behind it failed; the reason stands further up.
    "Engine core initialization failed",
    _CORE_DIED,
    "EngineCore encountered an issue",
    # A warning at each start, which names an exception that did not happen.
    "Found ulimit of",
)
_OF_A_WORKER = re.compile(r"Worker failed with error '(.*)', please check")
# pydantic names the class first and the reason on a line of its own, with all that it was given behind it.
_OF_THE_CONFIGURATION = re.compile(r"^\s*Value error, (.*?)(?: \[type=.*)?$")

_TOO_LITTLE_MEMORY = (
    "No available memory for the cache blocks",
    "Free memory on device",
    "is less than desired",
    "is less than requested memory for kv",
    "larger than the available KV cache memory",
)


def read_vllm_exit(code: int, log_tail: Sequence[str]) -> ExitReading:
    """Wrong arguments and settings are not tried again. Too little memory is: others may let some go."""
    message = _message(code, log_tail)
    if any(words in message for words in _TOO_LITTLE_MEMORY):
        message = (
            f"{message} - not enough memory: change 'memory_fraction', 'context_tokens' or 'parallel', "
            "or free what others hold"
        )
    wrong = (match[1] for line in log_tail if (match := _OF_THE_CONFIGURATION.match(line)))
    hopeless = code == USAGE_EXIT_CODE or any(reason[:100] in message for reason in wrong)
    return ExitReading(retryable=not hopeless, message=message)


def _message(code: int, log_tail: Sequence[str]) -> str:
    telling = list(_telling(log_tail))
    if code == 0 and any(_CORE_DIED in line for line in log_tail):
        # The front end tells its clients, and leaves a few seconds later as if all were well.
        return "the engine ended because its core died" + exit_with_cause(1, telling).removeprefix(
            exit_text(1)
        )
    return exit_with_cause(code, telling)


def _telling(log_tail: Sequence[str]) -> Iterator[str]:
    """The lines without noise, each reason in a form that stands by itself."""
    for line in log_tail:
        if any(noise in line for noise in _NOISE):
            continue
        if match := _OF_A_WORKER.search(line):
            yield f"RuntimeError: {match[1]}"
        elif match := _OF_THE_CONFIGURATION.match(line):
            yield f"ValueError: {match[1]}"
        else:
            yield line
