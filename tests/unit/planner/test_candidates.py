"""Which ways are looked at, by the shipped facts: engines that a device has, formats that can be had and held."""

from __future__ import annotations

from inferry.planner.answers import DoesNotFit
from inferry.planner.candidates import Candidate, candidates
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.engine_support import supports
from inferry.planner.facts.model_catalog import find_model
from inferry.planner.fitting import check_fit
from inferry.planner.setup import EngineName, Setup
from inferry.planner.wish import Hardware, Wish

ENGINES: tuple[EngineName, ...] = ("vllm", "sglang")


def ways(model: str, device: str, count: int, wish: Wish) -> tuple[list[Candidate], list[str]]:
    """Those that are looked at, and why others are not."""
    found = list(candidates(find_model(model), Hardware(find_device(device), count), wish, supports))
    looked_at = [each for each in found if isinstance(each, Candidate)]
    return looked_at, [each.why for each in found if not isinstance(each, Candidate)]


def test_apple_chips_are_planned_with_engines_that_use_their_gpu() -> None:
    """vLLM would compute on CPU cores there: only who asks for it gets it."""
    looked_at, _ = ways("Qwen/Qwen3-8B", "m3-ultra", 1, Wish())
    assert {each.setup.engine for each in looked_at} == {"llamacpp", "ollama"}
    asked, _ = ways("Qwen/Qwen3-8B", "m3-ultra", 1, Wish(engines=("vllm",)))
    assert {each.setup.engine for each in asked} == {"vllm"}
    assert any("slow on m3-ultra" in note for note in asked[0].notes)


def test_weights_made_while_loading_need_room_for_the_whole_ones() -> None:
    """405B in 16 bit are 95 GiB on each of eight: SGLang, which quantizes afterwards, can't; vLLM does it layer by layer.
    The checkpoint in FP8 is for both."""
    wish = Wish(engines=("vllm", "sglang"), quantization="fp8")
    looked_at, why = ways("meta-llama/Llama-3.1-405B-Instruct", "h100-80g", 8, wish)
    made = {each.setup.engine for each in looked_at if each.source.at_load and each.setup.devices == 8}
    assert made == {"vllm"}
    assert any("8 x h100-80g can't hold" in each for each in why)
    repos = {each.setup.engine for each in looked_at if each.source.repo and each.setup.devices == 8}
    assert repos == {"vllm", "sglang"}


def test_ways_out_need_that_room_as_well() -> None:
    """30B in 16 bit are 57 GiB, an L40S has 45: SGLang could not make FP8 of them, vLLM can."""
    arch, device = find_model("Qwen/Qwen3-30B-A3B"), find_device("l40s")
    words = {}
    for engine in ENGINES:
        found = check_fit(arch, device, Setup(engine), context_tokens=4096)
        assert isinstance(found, DoesNotFit)
        words[engine] = " ".join(way.words for way in found.ways_out)
    assert "quantized while loading" in words["vllm"]
    assert "quantized while loading" not in words["sglang"]


def test_a_slow_format_is_planned_for_who_asks_and_told_to_who_does_not() -> None:
    """FP8 on an A100 is kept in 8 bit and computed in 16: by name, with a note; unasked, the reason why not."""
    by_name, _ = ways(
        "meta-llama/Llama-3.1-70B-Instruct", "a100-80g", 2, Wish(engines=("vllm",), quantization="fp8")
    )
    assert by_name
    assert any("slow on a100-80g" in note for note in by_name[0].notes)
    unasked, why = ways("meta-llama/Llama-3.1-70B-Instruct", "a100-80g", 2, Wish(engines=("vllm",)))
    assert {each.setup.weights for each in unasked} == {"bf16"}
    assert any("without fast kernels" in each for each in why)


def test_a_format_without_a_known_checkpoint_is_planned_and_says_so() -> None:
    """A way out that names AWQ can be asked for: what is missing is told. A known repository is named instead."""
    wish = Wish(engines=("vllm",), quantization="awq")
    unknown, _ = ways("meta-llama/Llama-3.1-70B-Instruct", "h100-80g", 1, wish)
    assert unknown[0].source.to_find
    assert "of which none is known here" in unknown[0].source.note
    known, _ = ways("Qwen/Qwen3-32B", "h100-80g", 1, wish)
    assert known[0].source.repo == "Qwen/Qwen3-32B-AWQ"


def test_ollama_names_are_files_and_others_take_the_repository() -> None:
    """llama.cpp reads the GGUF file, vLLM the weights that it was made of, and says which."""
    looked_at, _ = ways("qwen3:32b", "rtx5090", 1, Wish(engines=("ollama", "vllm"), quantization="auto"))
    plain = [each for each in looked_at if each.setup.kv in ("fp16", "bf16")]
    by_engine = {each.setup.engine: each for each in plain if each.setup.weights in ("gguf", "bf16")}
    assert by_engine["ollama"].as_it_is
    assert by_engine["vllm"].source.repo == "Qwen/Qwen3-32B"
    assert not by_engine["vllm"].as_it_is
    native, _ = ways("qwen3:32b", "rtx5090", 1, Wish(engines=("ollama", "vllm"), quantization="native"))
    assert {each.setup.engine for each in native} == {"ollama"}
    alone, _ = ways("qwen3:32b", "h100-80g", 1, Wish(engines=("vllm",)))
    assert alone[0].as_it_is
