"""How near the planner comes to what engines printed and people measured.

    python -m benchmarks.planner_accuracy --kv KV.csv --throughput THROUGHPUT.csv
    python -m benchmarks.planner_accuracy --kv KV.csv --json

Any file of either schema: rows of grade A with enough facts are scored, the others are named with the reason. Exit code
1: a target was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import planner_kv
from benchmarks.planner_scores import LeftOut, Scores, as_markdown

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
LINES_MAX = 60


def main() -> int:
    wanted = _parser().parse_args()
    if wanted.kv is None and wanted.throughput is None:
        _parser().error("nothing to score: give --kv FILE.csv, --throughput FILE.csv or both")
    for path in (wanted.kv, wanted.throughput):
        if path is not None and not path.is_file():
            _parser().error(f"there is no file {path}")
    scores: dict[str, Scores] = {}
    if wanted.kv is not None:
        scores["kv"] = planner_kv.score(wanted.kv)
    if wanted.throughput is not None:
        # Speed takes longer to load than memory takes to score.
        throughput = importlib.import_module("benchmarks.planner_throughput")
        scores["throughput"] = throughput.score(wanted.throughput)
    if wanted.json:
        print(json.dumps({name: score.as_json() for name, score in scores.items()}, indent=1))
    else:
        for score in scores.values():
            _print(score)
    if wanted.write_docs:
        for name, score in scores.items():
            write_section(PAGE, name, score)
    return int(not all(score.reached for score in scores.values()))


def _print(score: Scores) -> None:
    print(f"{score.about}\n")
    for figure in score.figures:
        print(figure.line())
    for note in score.notes:
        print(note)
    print(f"\n{as_markdown(score.table)}\n")
    print(f"Left out: {len(score.left_out)}")
    for left in score.left_out:
        print(f"  {left.row}: {left.why}")
    print()


def write_section(page: Path, name: str, score: Scores) -> None:
    """Put the figures and the table between the page's two marks of that name."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page}: the marks '{begin}' and '{end}' are missing")
    figures = "\n".join(f"- {figure.line()}" for figure in score.figures)
    left = "\n".join(f"- {line}" for line in left_lines(score.left_out))
    notes = "".join(f"\n{note}\n" for note in score.notes)
    body = f"{figures}\n{notes}\n{as_markdown(score.table)}\n\nLeft out, and why:\n\n{left}\n"
    page.write_text(f"{before}{begin}\n\n{body}\n{end}{after}", encoding="utf-8")


def left_lines(left: Sequence[LeftOut]) -> list[str]:
    """A line per row, or where a page would drown in them, one per reason."""
    if len(left) <= LINES_MAX:
        return [f"{each.row}: {each.why}" for each in left]
    reasons = Counter(re.sub(r"\b(tp|kv)\d+", "another row", each.why) for each in left)
    return [f"{rows} rows: {why}" for why, rows in reasons.most_common()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="planner_accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kv",
        type=Path,
        metavar="FILE.csv",
        help="starts of engines with what they printed of their KV cache",
    )
    parser.add_argument("--throughput", type=Path, metavar="FILE.csv", help="measured speed")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--write-docs", action="store_true", help=f"put figures and tables into {PAGE.name}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
