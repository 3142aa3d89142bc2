"""The fit of the performance model, and the rules by which published rows are read and scored."""

from __future__ import annotations

import json
import math

import pytest
from benchmarks.planner_fit import FACTS, bounds, fit_text
from benchmarks.planner_ranking import spearman
from benchmarks.planner_runs import NotEnoughFacts, parallelism, read_run, read_runs
from benchmarks.planner_throughput import drawn_anew

ROW = {
    "id": "x1", "grade": "A", "source": "", "engine": "vllm", "engine_version": "0.12.0", "model": "Qwen/Qwen3-32B",
    "gpu": "h100_sxm", "n_gpus": "2", "tp": "2", "pp": "1", "ep": "1", "dp": "", "quant": "", "mode": "agg",
    "load_kind": "closed_loop", "dataset": "random", "isl": "1024", "osl": "128", "concurrency": "16",
    "request_rate_rps": "", "num_prompts": "", "ttft_ms_mean": "187.9", "tpot_ms_mean": "22.2",
    "output_tok_s_total": "680", "flags": "", "note": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "run"),
    [
        ((16, 16, 4, 1), (4, 4, 4, 1)),
        ((64, 1, 8, 64), (8, 1, 8, 8)),
        ((4, 2, 4, 2), (2, 1, 2, 2)),
        ((8, 8, 8, 1), (8, 8, 8, 1)),
        ((4, 4, 1, 1), (4, 4, 1, 1)),
        ((4, 0, 4, 4), (4, 1, 4, 4)),
    ],
)
def test_gpus_that_are_counted_twice_are_counted_once(listed: tuple[int, ...], run: tuple[int, ...]) -> None:
    """GPUs, tp, ep and dp: only the squares that the sample's double counting makes are changed."""
    assert parallelism(*listed) == run


def test_a_row_becomes_a_run_with_its_checkpoint_s_format() -> None:
    """No format in the row: bf16, as Qwen3 32B is published; FP8 of a mixture is in blocks."""
    run = read_run(ROW)
    assert (run.setup.weights, run.setup.kv, run.setup.devices, run.tpot_ms) == ("bf16", "bf16", 2, 22.2)
    mixture = ROW | {"model": "Qwen/Qwen3-235B-A22B", "quant": "fp8", "flags": "gemm=fp8 moe=fp8 batch=16"}
    assert read_run(mixture).setup.weights == "fp8_block"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"grade": "B"}, "grade B"),
        ({"mode": "disagg"}, "different replicas"),
        ({"flags": "--speculative-config={}"}, "speculative"),
        ({"n_gpus": ""}, "number of GPUs"),
        ({"model": "nobody/knows-1b"}, "no facts about the model"),
        ({"concurrency": ""}, "without its size"),
        ({"osl": ""}, "lengths"),
        ({"isl": "about 2k"}, "isn't a number"),
    ],
)
def test_rows_without_enough_facts_are_left_out_with_the_reason(change: dict[str, str], why: str) -> None:
    """The reason is told, not a list of names."""
    with pytest.raises(NotEnoughFacts, match=why):
        read_run(ROW | change)


def test_a_measurement_that_is_listed_twice_counts_once() -> None:
    """The second row is named as the first one's copy."""
    runs, left = read_runs([ROW, ROW | {"id": "x2"}, ROW | {"id": "x3", "tpot_ms_mean": "25"}])
    assert [run.row for run in runs] == ["x1", "x3"]
    assert [(each.row, each.why) for each in left] == [("x2", "the same measurement as x1")]


def test_ranges_hold_a_left_out_model() -> None:
    """Three models off by -10, 0 and +10 %: the range has to reach further than what 90 % of all rows need."""
    values = [(name, factor) for name, factor in (("a", 0.9), ("b", 1.0), ("c", 1.1)) for _ in range(50)]
    found = bounds(values)
    assert found.low <= 0.9
    assert found.high >= 1.1


def test_models_drawn_anew_show_what_rests_on_one_model() -> None:
    """Models alike: nothing to draw; one model in three that is far off: it is drawn twice or more in a quarter of cases."""
    assert drawn_anew([[10.0], [10.0], [10.0]]) == (10.0, 10.0)
    assert drawn_anew([[10.0], [10.0], [90.0]]) == (10.0, 90.0)


def test_clients_of_a_closed_loop_are_all_admitted() -> None:
    """The engine's limit follows the clients: one far above them would cost memory that the run did not spend."""
    assert read_run(ROW | {"concurrency": "300"}).setup.max_sequences == 300
    assert read_run(ROW | {"load_kind": "all_at_once", "num_prompts": "9"}).setup.max_sequences is None


def test_spearman_by_hand() -> None:
    """1 for the same order, -1 for the reverse, ties share ranks."""
    assert spearman([1, 2, 3], [10, 20, 30]) == 1
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2, 2, 4], [1, 2, 3, 4]) == pytest.approx(math.sqrt(0.9))


@pytest.mark.slow
def test_shipped_constants_are_what_the_fit_gives() -> None:
    """performance.json is remade from the data in the repository, to 1 % (other BLAS libraries round otherwise)."""
    shipped, fitted = json.loads(FACTS.read_text(encoding="utf-8")), json.loads(fit_text())
    for quantity, terms in shipped["quantities"].items():
        assert terms.keys() == fitted["quantities"][quantity].keys()
        for term, offsets in terms.items():
            again = fitted["quantities"][quantity][term]
            for group in offsets.keys() | again.keys():
                assert offsets.get(group, 0.0) == pytest.approx(again.get(group, 0.0), abs=0.01)
