"""The program of one embedded llama.cpp replica: starts llama.cpp's own HTTP server, ends on SIGTERM.

Run as `python -m inferry.engines.llamacpp_child`; the key comes in the environment, never as an argument.
It imports next to nothing, so that a replica's start is the loading of its model and little more.
Exit codes: 0 asked to end, 75 the port is taken, 78 trying again would not help (see exit_text).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from inferry.engines.exit_text import CONFIG_EXIT_CODE, SAID_BY_US, TEMPORARY_EXIT_CODE

GGUF_MAGIC = b"GGUF"


def main(arguments: list[str]) -> NoReturn:
    """Serve until a signal says to end. Until the model is loaded, signals end the process by default."""
    options = _parse(arguments)
    secret = os.environ.pop("INFERRY_ENGINE_KEY", "")
    _check_model_file(options.model)
    try:
        import xllamacpp  # after the checks: it takes 0.1 s
    except ImportError as error:
        _end(
            CONFIG_EXIT_CODE,
            f"the embedded llama.cpp can't be loaded ({error}): pip install 'inferry[local]'",
        )
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    if secret:
        params.api_keys = [secret]
    params.cors_origins = ""  # no browser talks to a replica
    params.ui = False
    params.endpoint_metrics = True
    params.n_parallel = options.parallel
    # llama.cpp shares the context out over its slots; the file counts per request.
    params.n_ctx = options.context_tokens * options.parallel
    params.n_threads_http = options.http_threads
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.prefill_assistant = True
    if options.gpu_layers is not None:
        params.n_gpu_layers = options.gpu_layers
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        # llama.cpp has told the reason in the lines above, but only there: tell the two cases apart.
        if _port_is_taken(options.host, options.port):
            _end(TEMPORARY_EXIT_CODE, f"port {options.port} of {options.host} is taken by another program")
        _end(CONFIG_EXIT_CODE, f"llama.cpp could not load {options.model}: {_short(error)}")
    # Not signal.pause(): a signal that one of llama.cpp's threads takes, or that comes just before the pause,
    # would not wake it. The handler writes to this pipe from wherever it runs.
    wake_read_fd, wake_write_fd = os.pipe()
    os.set_blocking(wake_write_fd, False)
    signal.set_wakeup_fd(wake_write_fd)
    signal.signal(signal.SIGTERM, _on_end)
    signal.signal(signal.SIGINT, _on_end)
    _say(
        f"serving {options.model} at {server.listening_address}: {options.parallel} slots of "
        f"{options.context_tokens} tokens, {options.threads} threads"
    )
    while True:
        os.read(wake_read_fd, 1)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llamacpp_child", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--context-tokens", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--http-threads", type=int, default=256)
    parser.add_argument("--gpu-layers", type=int)
    return parser.parse_args(arguments)


def _check_model_file(path: str) -> None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs start time
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        _end(CONFIG_EXIT_CODE, f"the model file can't be read: {error}")
    if magic != GGUF_MAGIC:
        _end(CONFIG_EXIT_CODE, f"{path} is not a GGUF file")


def _port_is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As llama.cpp's server does: ports in TIME_WAIT are free for it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _short(error: Exception) -> str:
    text = str(error)
    if "Failed to init server" in text:
        return "the file is broken, of a kind that this version does not know, or needs more memory than there is"
    return text


def _on_end(signal_number: int, frame: FrameType | None) -> None:
    # Whoever sends the signal has let running requests finish. The server's own teardown waits for streams
    # that nobody reads any more; nothing in this process needs saving.
    os._exit(0)


def _say(text: str) -> None:
    sys.stdout.write(f"{SAID_BY_US}{text}\n")
    sys.stdout.flush()


def _end(code: int, text: str) -> NoReturn:
    # llama.cpp's own thread may be in the middle of a line: ours begins one, in one write, or nobody would find it.
    sys.stdout.write(f"\n{SAID_BY_US}{text}\n")
    sys.stdout.flush()
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
