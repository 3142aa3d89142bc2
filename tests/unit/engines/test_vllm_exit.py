"""What the end of a vLLM means. The lines are of vLLM 0.32.0 on the CPU, shortened, where no GPU is named."""

from __future__ import annotations

import pytest

from inferry.engines.vllm_exit import read_vllm_exit

ULIMIT = (
    "(APIServer pid=1) WARNING 11-23 05:30:59 [system_utils.py:255] Found ulimit of 20000 and failed to "
    "automatically increase with error current limit exceeds maximum limit. This can cause fd limit errors "
    "like `OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n"
)
CORE_FAILED = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def test_an_unknown_argument() -> None:
    """argparse's words; trying again would not help."""
    tail = ["usage: vllm [-h] [-v]", "vllm: error: unrecognized arguments: --no-such-flag 1"]
    reading = read_vllm_exit(2, tail)
    assert not reading.retryable
    assert reading.message == (
        "the engine exited with code 2: error: unrecognized arguments: --no-such-flag 1"
    )


def test_a_setting_that_the_model_refuses() -> None:
    """pydantic's reason, without the dump of everything that it was given."""
    tail = [
        ULIMIT,
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, Unknown quantization method: fp9. Must be one of ['awq']. "
        "[type=value_error, input_value=ArgsKwargs((), {'model': ...}), input_type=ArgsKwargs]",
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error",
    ]
    reading = read_vllm_exit(1, tail)
    assert not reading.retryable
    assert reading.message.endswith(
        "code 1: ValueError: Unknown quantization method: fp9. Must be one of ['awq']."
    )


def test_too_little_memory() -> None:
    """The worker's reason instead of the front end's echo, with the keys of the file; it is tried again."""
    tail = [
        "RuntimeError: Worker failed with error 'Available memory on node 0 (19.92/23.54 GiB) on kv cache "
        "allocation is less than requested memory for kv (900.0 GiB). Decrease --kv-cache-memory-bytes, "
        "VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by other processes.', please check the stack trace "
        "above for the root cause",
        CORE_FAILED,
    ]
    reading = read_vllm_exit(1, tail)
    assert reading.retryable
    assert "RuntimeError: Available memory on node 0" in reading.message
    assert "not enough memory: change 'memory_fraction'" in reading.message
    assert "root cause" not in reading.message


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=7) ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "(EngineCore pid=7) ERROR ValueError: Free memory on device cuda:0 (3.2/79.1 GiB) on startup is less "
        "than desired GPU memory utilization (0.92, 72.8 GiB).",
        "(EngineCore pid=7) ERROR ValueError: No available memory for the cache blocks. Try increasing it.",
    ],
)
def test_too_little_gpu_memory(line: str) -> None:
    """Said in words, whatever vLLM's own are."""
    reading = read_vllm_exit(1, [line, CORE_FAILED])
    assert reading.retryable
    assert "not enough" in reading.message
    assert "memory" in reading.message


DEAD = (
    "(APIServer pid=1) WARNING 11-23 06:03:04 [core_client.py:817] [shutdown] MPClient: engine core exited "
    "unexpectedly; starting cleanup",
    "(APIServer pid=1) ERROR 11-23 06:03:04 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: "
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "INFO:     Finished server process [1]",
)


def test_a_core_that_died_while_serving() -> None:
    """vLLM then exits with code 0, as if it had been asked to: it is told as what it is, with the reason if any."""
    killed = read_vllm_exit(0, [ULIMIT, *DEAD])
    assert killed.retryable
    assert killed.message == "the engine ended because its core died"
    oom = (
        "(EngineCore pid=7) ERROR [core.py:9] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate."
    )
    assert read_vllm_exit(0, [oom, *DEAD]).message == (
        "the engine ended because its core died: not enough GPU memory "
        "(torch.OutOfMemoryError: CUDA out of memory. Tried to allocate.)"
    )
    assert read_vllm_exit(0, ["INFO:     Finished server process [1]"]).message == (
        "the engine exited with code 0"
    )


def test_a_port_that_is_taken() -> None:
    """Worth another try, on another port."""
    reading = read_vllm_exit(1, [ULIMIT, "OSError: [Errno 98] Address already in use"])
    assert reading.retryable
    assert reading.message == "the engine exited with code 1: OSError: [Errno 98] Address already in use"


def test_a_warning_is_no_cause() -> None:
    """vLLM warns of an exception that did not happen, at each start."""
    assert read_vllm_exit(1, [ULIMIT, CORE_FAILED]).message == "the engine exited with code 1"
    assert read_vllm_exit(-9, [ULIMIT]).message.startswith("the engine was killed by SIGKILL")
