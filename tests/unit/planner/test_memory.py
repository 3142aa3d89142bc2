"""Where memory goes: the laws of engines and versions, and the traps of their logs."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from inferry.core.errors import ConfigError
from inferry.planner.architecture import Architecture
from inferry.planner.facts.engine_memory import find_engine_memory, known_engines, known_fits, without_model
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.kv_cache import pooled_bytes_per_token
from inferry.planner.limits import limits_of
from inferry.planner.memory import Held, divide, plan_memory
from inferry.planner.setup import EngineName, Setup
from tests.unit.planner.known_shapes import DEEPSEEK_R1, GIB, H100, LINEAR, LLAMA_8B, LLAMA_70B, WINDOWED, gpu

ENGINES: tuple[EngineName, ...] = ("vllm", "sglang", "tensorrt_llm", "tgi", "llamacpp", "ollama")


def test_a_start_of_vllm_0_11_is_met() -> None:
    """Llama 3.1 8B on an H100 of 79.18 GiB printed 51.38 GiB for the cache: 0.9 x 79.18 - 14.99 - 4.76 - 0.13."""
    plan = plan_memory(LLAMA_8B, gpu(79.18), Setup("vllm", "0.11.0", max_model_tokens=16_000))
    assert plan.weights / GIB == pytest.approx(14.99, abs=0.01)
    assert plan.activations / GIB == pytest.approx(4.76, abs=0.03)
    assert plan.kv / GIB == pytest.approx(51.38, rel=0.005)
    assert plan.kv / GIB < 51.38


@pytest.mark.parametrize(
    ("version", "tensor", "peak_gib", "kv_gib"),
    [
        ("0.16.0", 1, 4.76, 55.35),
        ("0.19.0", 1, 1.89, 58.11),
        ("0.19.0", 2, 1.89, 63.76),
        ("0.19.0", 4, 1.89, 67.44),
    ],
)
def test_vllm_0_17_samples_in_less(version: str, tensor: int, peak_gib: float, kv_gib: float) -> None:
    """Llama 3.1 8B on H100 at 0.95, as llm-d-planner's accuracy report has it (0.16: its law of that version); with
    several GPUs 2.1 GiB go to the fused all-reduce."""
    setup = Setup("vllm", version, tensor_parallel=tensor, memory_fraction=0.95, max_model_tokens=8192)
    plan = plan_memory(LLAMA_8B, replace(gpu(79.19), compute_capability="9.0"), setup)
    assert plan.activations / GIB == pytest.approx(peak_gib, abs=0.1)
    assert plan.kv / GIB == pytest.approx(kv_gib, rel=0.01)
    assert plan.kv / GIB < kv_gib * 1.005


def test_only_some_cards_fuse_their_all_reduce() -> None:
    """Two A100 have 1.6 GiB more for the cache than two H100 of the same memory."""
    setup = Setup("vllm", "0.19.0", tensor_parallel=2, max_sequences=256)
    ampere, hopper = (
        plan_memory(LLAMA_8B, replace(gpu(79.19), compute_capability=capability), setup)
        for capability in ("8.0", "9.0")
    )
    assert (ampere.kv - hopper.kv) / GIB == pytest.approx(1.65, abs=0.01)


def test_inputs_of_all_reduces_were_held_in_0_2_5() -> None:
    """Two per layer: 160 x 4,096 x 8,192 x 2 B = 10 GiB of Llama 70B on four GPUs, which no version before or since took
    (vllm pulls 2031, 2151)."""
    setup = Setup("vllm", tensor_parallel=4, max_model_tokens=4096, max_sequences=1)
    before, held, since = (
        plan_memory(LLAMA_70B, gpu(79.15, "a100-80g"), replace(setup, engine_version=version)).activations
        / GIB
        for version in ("0.2.4", "0.2.5", "0.2.6")
    )
    assert held - before == pytest.approx(10, abs=0.1)
    assert before == since


def test_mixed_layers_share_a_pool_from_0_10_to_0_20() -> None:
    """Trap 1: printed are blocks / groups x block, so Qwen3-Next's twelve full and 36 linear layers cost like 48 full ones:
    44.59 GiB were 973,760 tokens on two H200 (0.10.2)."""
    arch = find_model("Qwen/Qwen3-Next-80B-A3B-Instruct")
    setup = Setup("vllm", "0.10.2", tensor_parallel=2)
    assert 44.59 * GIB / pooled_bytes_per_token(arch, setup) == pytest.approx(973_760, rel=0.001)
    gemma = find_model("google/gemma-3-27b-it")
    assert pooled_bytes_per_token(gemma, setup) == 70 * 2 * 8 * 128 * 2


@pytest.mark.parametrize("version", ["0.6.1", "0.9.2", "0.11", "0.25"])
def test_a_model_without_a_cache_is_planned_by_its_states(version: str) -> None:
    """Mamba keeps one state per sequence and nothing per token."""
    plan = plan_memory(
        find_model("tiiuae/falcon-mamba-7b"), H100, Setup("vllm", version, max_model_tokens=4096)
    )
    assert plan.kv_bytes_per_token == 0
    assert plan.kv_tokens > 1000 * 4096


def test_the_parts_make_up_the_budget() -> None:
    """Where an engine profiles itself, nothing is left over or counted twice."""
    plan = plan_memory(LLAMA_70B, H100, Setup("vllm", "0.11.0", tensor_parallel=4))
    assert plan.weights + plan.activations + plan.runtime + plan.state + plan.kv == plan.budget
    newer = plan_memory(LLAMA_70B, H100, Setup("vllm", "0.22.0", tensor_parallel=4))
    assert newer.graphs_in_budget
    assert newer.weights + newer.activations + newer.runtime + newer.graphs + newer.kv == newer.budget


def test_tokens_don_t_grow_and_fall_with_the_longest_length_alone() -> None:
    """Trap 3: vLLM V0 prefills contexts above 32k in chunks, so 120,000 leaves more tokens than 24,000; and of the
    unchunked ones the shorter leaves more (vllm issue 10517)."""
    tokens = [
        plan_memory(
            LLAMA_70B, H100, Setup("vllm", "0.5.4", tensor_parallel=2, max_model_tokens=longest)
        ).kv_tokens
        for longest in (120_000, 16_000, 20_000, 24_000)
    ]
    assert tokens == sorted(tokens, reverse=True)
    printed = [23_968, 15_328, 10_944, 6_592]
    assert all(own == pytest.approx(truth, rel=0.08) for own, truth in zip(tokens, printed, strict=True))


def test_tokens_of_mixed_models_are_a_multiple_of_the_longest_length() -> None:
    """Trap 1: what vLLM V1 prints for hybrid models is concurrency x length, no capacity per token; a shorter longest
    length prints fewer tokens of the same memory."""
    long, short = (
        plan_memory(WINDOWED, H100, Setup("vllm", "0.22.0", max_model_tokens=tokens))
        for tokens in (131_072, 4096)
    )
    assert long.kv == short.kv
    assert long.kv_tokens > 2 * short.kv_tokens


def test_windows_are_no_saving_where_the_engine_does_not_know_them() -> None:
    """V0 caches windowed layers whole: Gemma 3 holds a sixth of the tokens that its shape would allow."""
    old, new = (
        plan_memory(WINDOWED, H100, Setup("vllm", version, max_model_tokens=131_072))
        for version in ("0.8.0 (V0)", "0.22.0")
    )
    assert old.kv_bytes_per_token == 6 * new.kv_bytes_per_token
    assert old.kv_tokens < new.kv_tokens / 3


def test_graphs_are_outside_of_the_budget_before_the_newer_v1() -> None:
    """Trap 5: a plan that passes the engine's profiling may still run out when graphs are captured."""
    old, new = (plan_memory(LLAMA_8B, H100, Setup("vllm", version)) for version in ("0.10.0", "0.22.0"))
    assert old.graphs > 0
    assert not old.graphs_in_budget
    assert new.graphs_in_budget
    assert plan_memory(LLAMA_8B, H100, Setup("vllm", "0.22.0", cuda_graphs=False)).kv > new.kv


def test_what_the_driver_reports_counts_not_the_nameplate() -> None:
    """Trap 9: an 80 GiB card reports 79.19 GiB, and the fraction is of that."""
    plan = plan_memory(LLAMA_8B, gpu(79.19, memory_gib=80), Setup("vllm", "0.11.0"))
    assert plan.total == int(79.19 * GIB)
    assert plan.budget == round(0.9 * int(79.19 * GIB))


def test_windows_of_a_model_without_a_longest_context_hold_tokens() -> None:
    """Some configs don't tell it: then there is no number of longest sequences, but room all the same."""
    unknown = replace(WINDOWED, max_position=0)
    assert plan_memory(unknown, H100, Setup("vllm", "0.21.0")).kv_tokens > 100_000


def test_tokens_come_in_blocks_and_never_from_nothing() -> None:
    """vLLM rounds down to 16 tokens; weights beyond the budget leave none."""
    plan = plan_memory(LLAMA_8B, H100, Setup("vllm", "0.11.0"))
    assert plan.kv_tokens % 16 == 0
    assert plan.kv_tokens * plan.kv_bytes_per_token <= plan.kv
    full = plan_memory(LLAMA_70B, gpu(24), Setup("vllm"))
    assert full.kv < 0
    assert full.kv_tokens == 0


def test_sglang_takes_its_fraction_of_what_it_finds() -> None:
    """Available after the load minus (1 - fraction) x available before: 124.23 - 0.1282 x 139.21 = 106.38 GiB were
    printed for Llama 3 8B on an H200 (sglang issue 6753)."""
    setup = Setup("sglang", "0.4.6", memory_fraction=0.8717961, max_model_tokens=8192)
    plan = plan_memory(LLAMA_8B, gpu(139.72, "h200-141g"), setup)
    assert plan.kv / GIB == pytest.approx(106.36, rel=0.003)


@pytest.mark.parametrize(("tensor", "expected"), [(1, 0.88), (2, 0.87), (4, 0.85), (8, 0.81), (16, 0.79)])
def test_older_sglang_has_a_fraction_by_devices(tensor: int, expected: float) -> None:
    """server_args.py up to 0.4.7."""
    assert limits_of(LLAMA_8B, H100, Setup("sglang", "0.4.6", tensor_parallel=tensor)).fraction == expected


def test_newer_sglang_reserves_by_the_size_of_the_device() -> None:
    """An H100 of 80 GiB: 9.5 + 1/2 GiB are reserved."""
    assert limits_of(LLAMA_8B, gpu(79.19, memory_gib=80), Setup("sglang", "0.4.9")).fraction == 0.875


@pytest.mark.parametrize(
    ("total_mib", "gpus", "expected"), [(24_564, 1, 0.847), (81_559, 1, 0.835), (81_559, 8, 0.818)]
)
def test_later_sglang_reserves_by_its_step(total_mib: int, gpus: int, expected: float) -> None:
    """RTX 4090: 512 + 3,072 + 48 + 128 MiB of 24,564; H100: 512 + 12,288 + 512 + 128 of 81,559; eight of them capture
    graphs for 512 sequences: 512 + 12,288 + 1,024 + 1,024."""
    device = replace(H100, driver_total_bytes=total_mib * 2**20)
    assert limits_of(LLAMA_8B, device, Setup("sglang", "0.5.9", tensor_parallel=gpus)).fraction == expected


@pytest.mark.parametrize(
    ("arch", "total_mib", "vendor", "expected"),
    [
        (LLAMA_8B, 81_559, "nvidia", 0.828),
        (LLAMA_8B, 24_564, "nvidia", 0.833),
        (LLAMA_8B, 81_559, "amd", 0.835),
        (DEEPSEEK_R1, 81_559, "nvidia", 0.816),
    ],
)
def test_the_newest_sglang_reserves_for_graphs_of_prefills(
    arch: Architecture, total_mib: int, vendor: str, expected: float
) -> None:
    """8 MiB for each of 74 sizes up to 8,192 tokens, of 42 up to 2,048; 1.5 GiB where latents are cached."""
    device = replace(H100, driver_total_bytes=total_mib * 2**20, vendor=vendor)
    assert limits_of(arch, device, Setup("sglang")).fraction == expected


def test_sglang_reserves_from_the_driver_s_total() -> None:
    """An L4 of 24 GB has 23,034 MiB by nvidia-smi: 3,760 of them are 16.3 %, not 15.3 as of 24 GiB. Where it is not
    known, half a GiB above what a process may use."""
    l4 = replace(gpu(22.03, "l4", memory_gib=24), driver_total_bytes=23_034 * 2**20)
    assert limits_of(LLAMA_8B, l4, Setup("sglang", "0.5.9")).fraction == 0.837
    unknown = replace(l4, driver_total_bytes=None)
    assert limits_of(LLAMA_8B, unknown, Setup("sglang", "0.5.9")).fraction == pytest.approx(0.837, abs=0.001)


def test_a_device_smaller_than_sglang_s_reserve_holds_nothing() -> None:
    """3.7 GiB of a card of 2: a fraction that can be said, and no cache."""
    plan = plan_memory(LLAMA_8B, gpu(2), Setup("sglang", "0.5.9"))
    assert limits_of(LLAMA_8B, gpu(2), Setup("sglang", "0.5.9")).fraction > 0
    assert plan.kv < 0


def test_attention_data_parallelism_of_sglang_reserves_more() -> None:
    """Eight ranks on H100s: 512 x 8 x (3 + 1.5) MiB on top of 14.5 GiB."""
    device = replace(H100, driver_total_bytes=81_559 * 2**20)
    fraction = limits_of(LLAMA_8B, device, Setup("sglang", "0.5.9", data_parallel=8)).fraction
    assert fraction == round(1 - (14_848 + 18_432) / 81_559, 3)


def test_sglang_keeps_memory_for_images_unless_it_is_told_a_fraction() -> None:
    """Gemma 3's tower of 27 layers x 1,152 squared: 0.835 x 0.95 x 0.958; without images, or told 0.835, it is 0.835.
    Up to 0.4.7 it was 0.9 of any fraction, of a told one too."""
    arch = find_model("google/gemma-3-27b-it")
    device = replace(H100, driver_total_bytes=81_559 * 2**20)
    setup = Setup("sglang", "0.5.9")
    limits = limits_of(arch, device, setup)
    assert limits.fraction == pytest.approx(0.835 * 0.95 * 0.9576, abs=2e-4)
    assert limits_of(arch, device, replace(setup, text_only=True)).fraction == 0.835
    told = replace(setup, memory_fraction=limits.fraction)
    assert plan_memory(arch, device, told).kv == plan_memory(arch, device, setup).kv
    old = limits_of(arch, device, replace(setup, engine_version="0.4.6", memory_fraction=0.8))
    assert (old.fraction, old.kept_share) == (0.8, 0.9)


def test_sglang_on_amd_keeps_memory_for_long_contexts() -> None:
    """Its kernels get 15 % of any fraction above 8,192 tokens; what is written to a file is the fraction before that."""
    mi300x = replace(gpu(191.5, "mi300x", vendor="amd"), driver_total_bytes=192 * GIB)
    setup = Setup("sglang", max_model_tokens=32_768)
    limits = limits_of(LLAMA_8B, mi300x, setup)
    assert (limits.fraction, limits.kept_share) == (0.867, 0.85)
    long, short = (
        plan_memory(LLAMA_8B, mi300x, replace(setup, max_model_tokens=tokens)) for tokens in (8193, 8192)
    )
    assert long.budget / short.budget == pytest.approx(0.85)
    told = replace(setup, memory_fraction=limits.fraction)
    assert plan_memory(LLAMA_8B, mi300x, told).kv == plan_memory(LLAMA_8B, mi300x, setup).kv


def test_defaults_of_vllm_follow_the_device() -> None:
    """1,024 sequences and 8,192 tokens from 70 GiB on, but not on an A100; 256 and 2,048 below."""
    large, a100, small = (
        limits_of(LLAMA_8B, device, Setup("vllm", "0.11.0"))
        for device in (H100, gpu(79.15, "a100-80g"), gpu(22, "l4"))
    )
    assert (large.sequences, large.batched_tokens) == (1024, 8192)
    assert (a100.sequences, a100.batched_tokens) == (small.sequences, small.batched_tokens) == (256, 2048)


@pytest.mark.parametrize(
    ("version", "era"),
    [
        ("0.2.4 before PR2031", "V0 up to 0.2.4"),
        ("0.5.4 (V0)", "V0 from 0.5"),
        ("0.8.3 (V0)", "V0 from 0.6.3"),
        ("0.7.0 (V1)", "V1 0.7"),
        ("0.8.3 (V1)", "V1 0.8"),
        ("0.8.3", "V1 0.8"),
        ("0.9.x-dev Jul-2025 (V1)", "V1 from 0.8.5"),
        ("0.15.1-class (V1)", "V1 from 0.10"),
        ("0.19.0", "V1 from 0.17"),
        ("0.2.4", "V0 up to 0.2.4"),
        ("0.4.0.post1 (V0)", "V0 0.2.6 to 0.4"),
        ("9.9", "V1 from 0.21"),
        (None, "V1 from 0.21"),
    ],
)
def test_versions_as_people_write_them(version: str | None, era: str) -> None:
    """Generation by its name or by the default of that version; unknown newer versions are the newest known."""
    assert find_engine_memory("vllm", version).era == era


def test_an_unknown_engine_is_named() -> None:
    """The message says which engine, and which are known."""
    with pytest.raises(ConfigError, match=r"vlm.*vllm"):
        find_engine_memory("vlm", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES)
def test_more_devices_never_leave_less_cache(engine: EngineName) -> None:
    """Doubling tensor parallelism holds at least as many tokens, for any shape and memory."""
    seeded = random.Random(7)
    for _ in range(60):
        arch = seeded.choice((LLAMA_8B, LLAMA_70B, DEEPSEEK_R1, WINDOWED, LINEAR))
        device = gpu(seeded.uniform(15, 200), "b200")
        tensor = seeded.choice((1, 2, 4))
        few, more = (
            plan_memory(
                arch,
                device,
                Setup(engine, tensor_parallel=degree, max_model_tokens=8192, memory_fraction=0.8),
            )
            for degree in (tensor, 2 * tensor)
        )
        # A second device brings buffers for talking: only a cache that was large enough to matter must not shrink.
        assert more.kv_tokens >= few.kv_tokens or few.kv < 2 * GIB


@pytest.mark.parametrize("engine", ENGINES)
def test_less_asked_never_leaves_less(engine: EngineName) -> None:
    """A smaller format of weights or cache, a larger device, fewer sequences: never fewer tokens."""
    setup = Setup(engine, max_sequences=512, memory_fraction=0.85)
    base = plan_memory(LLAMA_8B, gpu(40, "a"), setup).kv_tokens
    for better in (
        plan_memory(LLAMA_8B, gpu(48, "a"), setup),
        plan_memory(LLAMA_8B, gpu(40, "a"), replace(setup, weights="fp8")),
        plan_memory(LLAMA_8B, gpu(40, "a"), replace(setup, kv="fp8")),
        plan_memory(LLAMA_8B, gpu(40, "a"), replace(setup, max_sequences=64)),
        plan_memory(LLAMA_8B, gpu(40, "a"), replace(setup, memory_fraction=0.9)),
    ):
        assert better.kv_tokens >= base


def test_data_parallel_ranks_each_have_their_own_cache() -> None:
    """The replica holds the sum of its ranks."""
    one = plan_memory(LLAMA_8B, H100, Setup("sglang"))
    two = plan_memory(
        LLAMA_8B, H100, Setup("sglang", data_parallel=2, memory_fraction=one.budget / one.total)
    )
    assert two.kv_tokens % 2 == 0
    assert two.kv_tokens > one.kv_tokens


def test_bitsandbytes_needs_room_to_unpack() -> None:
    """Its largest matrix is 16-bit for a moment: 2 x 14,336 x 4,096 elements of what it saves."""
    setup = Setup("vllm", "0.11.0", max_sequences=1, max_batched_tokens=512, max_model_tokens=512)
    plain, packed = (
        plan_memory(LLAMA_8B, H100, replace(setup, weights=weights)) for weights in ("bf16", "bnb4")
    )
    assert packed.activations - plain.activations == pytest.approx(2 * 14_336 * 4096 * (2 - 0.516), rel=0.01)


def test_laws_by_hand() -> None:
    """100 GiB, 60 of weights, 5 of a step, 1 of context: profiled 0.9 leaves 24; of available 0.9 x 99 - 60 = 29.1; of
    free 0.9 x 34 = 30.6; reserved contexts have the rest."""
    held = Held(weights=60, slack=0, activations=5, context=1, graphs=2)
    left = {}
    for eras in known_engines().values():
        facts = msgspec.structs.replace(eras[0], graphs_in_budget=False)
        left[facts.law] = divide(facts, 100, 0.9, held)[1]
    assert left == {
        "profiled": 24,
        "fraction_of_available": 29,
        "fraction_of_free": 31,
        "reserved_contexts": 24,
    }


def test_constants_fitted_on_scored_starts_can_be_taken_back() -> None:
    """Each is what its estimates make it, and without a model's own starts it is the others' or the prior."""
    for fit in known_fits():
        fitted = [era for era in known_engines()[fit.engine] if era.era in fit.eras]
        assert len(fitted) == len(fit.eras)
        name, _, key = fit.constant.partition(".")
        for facts in fitted:
            value = getattr(facts, name)
            assert (value[key] if key else value) == pytest.approx(fit.without("no such model"), rel=0.1)
    facts = find_engine_memory("vllm", "0.8.3 (V1)")
    assert without_model("vllm", facts, "Meta-Llama-3.1-405B-AWQ").load_slack["awq"] == 0.36
    assert without_model("vllm", facts, "another").load_slack == facts.load_slack


@pytest.mark.parametrize("engine", ENGINES)
def test_every_constant_has_its_source(engine: EngineName) -> None:
    """No era without where its constants come from."""
    assert all(len(era.source) > 20 for era in known_engines()[engine])


def test_a_cpu_has_no_graphs_and_no_gpu_s_defaults() -> None:
    """vLLM on a CPU of 700 GiB: 256 sequences, no CUDA graphs, and 1.8 GiB of its own."""
    cpu = replace(gpu(700), kind="cpu", vendor="amd")
    setup = Setup("vllm", max_model_tokens=4096)
    assert limits_of(LLAMA_8B, cpu, setup).sequences == 256
    plan = plan_memory(LLAMA_8B, cpu, setup)
    assert plan.graphs == 0
    assert plan.runtime / GIB == pytest.approx(1.9, abs=0.01)
    assert plan_memory(LLAMA_8B, cpu, replace(setup, engine="llamacpp", weights="gguf")).runtime < 0.2 * GIB
