"""What other load generators say of a server, run as they are installed: medians and 99th percentiles, in ms.

guidellm keeps no time per token: its ITL is each request's mean, so that its 99th percentile is another quantity.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

Figures = dict[tuple[str, float], float]
"""By name (ttft, itl, e2e) and share."""

_PATIENCE_S = 180.0


class Load(Struct, frozen=True, kw_only=True):
    base_url: str
    rate: float
    seconds: float
    input_tokens: int
    output_tokens: int
    tokenizer: str
    """A folder."""
    seed: int = 1

    @property
    def requests(self) -> int:
        return round(self.rate * self.seconds)


def vllm(program: str, load: Load) -> Figures:
    """`vllm bench serve`, Poisson arrivals. Raises RuntimeError."""
    root = load.base_url.removesuffix("/v1")
    with tempfile.TemporaryDirectory() as folder:
        result = _result(
            Path(folder, "result.json"),
            *(program, "bench", "serve", "--backend", "openai-chat", "--base-url", root),
            *("--endpoint", "/v1/chat/completions", "--model", "exact", "--tokenizer", load.tokenizer),
            *("--dataset-name", "random", "--random-input-len", str(load.input_tokens)),
            *("--random-output-len", str(load.output_tokens), "--num-prompts", str(load.requests)),
            *("--request-rate", str(load.rate), "--seed", str(load.seed), "--ignore-eos", "--disable-tqdm"),
            *("--ready-check-timeout-sec", "0", "--percentile-metrics", "ttft,itl,e2el"),
            *("--metric-percentiles", "50,99", "--save-result", "--result-dir", folder),
            *("--result-filename", "result.json"),
        )
    return {
        (name, share): result[f"p{share * 100:.0f}_{theirs}_ms"]
        for name, theirs in (("ttft", "ttft"), ("itl", "itl"), ("e2e", "e2el"))
        for share in (0.5, 0.99)
    }


def guidellm(program: str, load: Load) -> Figures:
    """guidellm (as of 0.8), Poisson arrivals. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.json")
        target = f"kind=openai_http,target={load.base_url},model=exact,validate_backend=false"
        data = f"kind=synthetic_text,prompt_tokens={load.input_tokens},output_tokens={load.output_tokens}"
        result = _result(
            file,
            *(program, "run", "--backend", target, "--profile", f"kind=poisson,rate={load.rate}"),
            *("--constraint", f"kind=max_requests,count={load.requests}"),
            *("--tokenizer", f"kind=hf_auto,model={load.tokenizer}", "--data", data, "--disable-console"),
            *("--output", f"kind=json,path={file}"),
        )
    metrics = result["benchmarks"][0]["metrics"]
    named = (
        ("ttft", "time_to_first_token_ms", 1),
        ("itl", "inter_token_latency_ms", 1),
        ("e2e", "request_latency", 1000),
    )
    return {
        (name, share): scale * metrics[theirs]["successful"]["percentiles"][f"p{share * 100:.0f}"]
        for name, theirs, scale in named
        for share in (0.5, 0.99)
    }


def _result(file: Path, *command: str) -> dict[str, Any]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not over after {_PATIENCE_S:g} s") from None
    except OSError as error:
        raise RuntimeError(f"{command[0]} can't be run: {error.strerror}") from None
    if not file.exists():
        raise RuntimeError((done.stdout + done.stderr).strip()[-300:] or f"exit code {done.returncode}")
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found
