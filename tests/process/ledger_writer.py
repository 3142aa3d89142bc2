"""A stand-in for a gateway process: begins, counts and finishes requests as fast as it can, and says so.

Says `B id` after a begin, `C id n` after a count has become n, `E id n` after the line is written. Whoever reads that
before the process is killed knows what must be in the ledger.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.ledger.inflight_book import Begun, encode_begun
from inferry.ledger.request_log import RequestLog

RECEIVED_WALL_S = 1_767_225_600.0


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def run(folder: Path, life: str, seed: int) -> None:
    rng = random.Random(seed)
    both = RequestLog(folder, life)
    both.journal._file_bytes_max = 20_000
    open_requests: list[tuple[str, int]] = []
    number = 0
    while True:
        choice = rng.random()
        if len(open_requests) < 3 or (choice < 0.2 and len(open_requests) < 50):
            number += 1
            id = f"{life}-{number}"
            begun = Begun(
                id=id, request_id=id, route="/v1/completions", received_wall_s=RECEIVED_WALL_S, replica_id="r"
            )
            open_requests.append((id, both.begin(encode_begun(begun))))
            say(f"B {id}")
        elif choice < 0.8:
            id, slot = rng.choice(open_requests)
            both.counts[slot] += 1
            say(f"C {id} {both.counts[slot]}")
        else:
            id, slot = open_requests.pop(rng.randrange(len(open_requests)))
            tokens = both.counts[slot]
            both.finish(
                slot,
                Outcome(
                    id=id, request_id=id, route="/v1/completions", ending=Ending.COMPLETED, status=200,
                    received_wall_s=RECEIVED_WALL_S, duration_s=0.1, replica_id="r", prompt_tokens=1,
                    completion_tokens=tokens, usage_from=UsageFrom.ENGINE,
                ),
            )  # fmt: skip
            say(f"E {id} {tokens}")


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
