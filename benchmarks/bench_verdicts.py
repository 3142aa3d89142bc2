"""What benchmark tools call a success: ours and others on servers that err, one way after the other.

    python -m benchmarks.bench_verdicts                                    # ours only
    python -m benchmarks.bench_verdicts --vllm ENV/bin/vllm --guidellm ENV/bin/guidellm --tokenizer FOLDER

Prints a Markdown table: of the requests that each tool sent, how many it calls successful. The stand-in servers are
those of the tests (tests/unit/bench/standin_servers.py); each erring one should have none, each sound one all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from tests.unit.bench.standin_servers import ASKED, STANDINS, Standin, serving

from inferry.bench.plan import Constant, Lengths, RunPlan, Synthetic, Target
from inferry.bench.records import Verdict
from inferry.bench.runner import run

SENT = 4
RESULT = "result.json"
TOOL_PATIENCE_S = 120.0
SHOWN = {
    "well": "nothing wrong",
    "late-head": "late head",
    "stall": "stall in the middle",
    "empty-chunks": "empty chunks in between",
    "five-in-a-chunk-usage": "several tokens in a chunk",
    "error-then-done": "error frame, then [DONE]",
    "error-event": "`event: error`",
    "error-as-body": "200 with an error as its body",
    "engine-gave-up": "finish reason `abort`",
    "cut-between-events": "cut between two events",
    "cut-in-an-event": "cut within an event",
    "cut-behind-the-finish": "cut behind the finish reason",
    "no-finish-then-done": "no finish reason, [DONE]",
    "no-finish": "no finish reason, silent end",
    "nothing-said": "no text at all",
    "too-few": "fewer tokens than asked for, `length`",
    "event-not-json": "an event that is no JSON",
    "not-200": "status 503",
}


def main() -> int:
    wanted = _parser().parse_args()
    standins = [standin for name in SHOWN for standin in STANDINS if standin.name == name]
    return uvloop.run(compare(standins, wanted))


async def compare(standins: Sequence[Standin], wanted: argparse.Namespace) -> int:
    """Print the table. 1 if one of our own verdicts is wrong."""
    wrong = 0
    columns = ["server", "ours", *(["vllm bench serve"] if wanted.vllm else []), *(["guidellm"] if wanted.guidellm else [])]  # fmt: skip
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for standin in standins:
        async with serving((standin,)) as server:
            cells = [SHOWN[standin.name]]
            verdicts = await ours(standin, server)
            wrong += verdicts != [standin.verdict] * SENT
            cells.append(
                f"{verdicts.count(Verdict.OK)} of {len(verdicts)}: {', '.join(sorted(set(verdicts)))}"
            )
            if wanted.vllm:
                cells.append(await vllm(wanted.vllm, wanted.tokenizer, f"{server}/{standin.name}"))
            if wanted.guidellm:
                cells.append(await guidellm(wanted.guidellm, wanted.tokenizer, f"{server}/{standin.name}"))
        print("| " + " | ".join(cells) + " |", flush=True)
    return int(wrong > 0)


async def ours(standin: Standin, server: str) -> list[Verdict]:
    """Verdicts of a run by our own client."""
    plan = RunPlan(
        target=Target(base_url=f"{server}/{standin.name}", model="m"),
        arrivals=Constant(rate=20),
        workload=Synthetic(input_tokens=Lengths(mean=8), output_tokens=Lengths(mean=ASKED)),
        duration_s=SENT / 20,
        requests_max=SENT,
    )
    return [request.verdict for request in (await run(plan)).requests]


async def vllm(program: str, tokenizer: str, url: str) -> str:
    """Successes by `vllm bench serve`; its test request before the run is left out, as it ends the run if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        said = await _tool(
            *(program, "bench", "serve", "--backend", "openai-chat", "--base-url", url),
            *("--endpoint", "/chat/completions", "--model", "m", "--tokenizer", tokenizer),
            *("--dataset-name", "random", "--random-input-len", "8", "--random-output-len", str(ASKED)),
            *("--num-prompts", str(SENT), "--ready-check-timeout-sec", "0", "--ignore-eos", "--disable-tqdm"),
            *("--save-result", "--result-dir", folder, "--result-filename", RESULT),
        )
        result = _result(folder)
    return f"{result['completed']} of {SENT}" if result else f"no result: {said}"


async def guidellm(program: str, tokenizer: str, url: str) -> str:
    """Successes by guidellm (as of 0.8), without its look at /health before the run."""
    with tempfile.TemporaryDirectory() as folder:
        said = await _tool(
            *(program, "run", "--backend", f"kind=openai_http,target={url},model=m,validate_backend=false"),
            *("--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={SENT}"),
            *("--tokenizer", f"kind=hf_auto,model={tokenizer}", "--disable-console"),
            *("--data", f"kind=synthetic_text,prompt_tokens=8,output_tokens={ASKED}"),
            *("--output", f"kind=json,path={Path(folder, RESULT)}"),
        )
        result = _result(folder)
    if not result:
        return f"no result: {said}"
    totals = result["benchmarks"][0]["metrics"]["request_totals"]
    return f"{totals['successful']} of {totals['total']}"


def _result(folder: str) -> dict[str, Any]:
    """What a tool wrote down; nothing if it did not."""
    file = Path(folder, RESULT)
    found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
    return found


async def _tool(*command: str) -> str:
    """Run another tool to its end; the last line of what it said. Its own address of hubs is not asked."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    try:
        async with asyncio.timeout(TOOL_PATIENCE_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"not over after {TOOL_PATIENCE_S:g} s"
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1][:120] if lines else f"exit code {process.returncode}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vllm", help="the program vllm")
    parser.add_argument("--guidellm", help="the program guidellm")
    parser.add_argument(
        "--tokenizer", help="a folder with a tokenizer, that the other tools make prompts with"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
