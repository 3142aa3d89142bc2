"""From config.json to layers: windows, hybrids, mixtures, towers, and what is no causal model."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.architecture import (
    Architecture,
    DenseMlp,
    Experts,
    FullAttention,
    LatentAttention,
    LinearAttention,
)
from inferry.planner.facts.model_catalog import find_model, known_models, model_config
from inferry.planner.model_config import architecture_from_config
from inferry.planner.params import count_params
from inferry.planner.wish import Wish

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def read(**changes: Any) -> Architecture:
    return architecture_from_config("m", {**LLAMA, **changes})


def windows(arch: Architecture) -> dict[int | None, int]:
    """How many layers have which window."""
    found: dict[int | None, int] = {}
    for group in arch.groups:
        if isinstance(group.attention, FullAttention):
            found[group.attention.window_tokens] = found.get(group.attention.window_tokens, 0) + group.count
    return found


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("google/gemma-2-9b", {4096: 21, None: 21}),
        ("google/gemma-3-27b-it", {1024: 52, None: 10}),
        ("google/gemma-3-1b-it", {512: 22, None: 4}),
        ("openai/gpt-oss-120b", {128: 18, None: 18}),
        ("mistralai/Mistral-7B-v0.1", {4096: 32}),
        ("mistralai/Mistral-7B-v0.3", {None: 32}),
        ("CohereForAI/c4ai-command-r7b-12-2024", {4096: 24, None: 8}),
        ("Qwen/Qwen2.5-7B-Instruct", {None: 28}),
        ("microsoft/Phi-3-mini-128k-instruct", {None: 32}),
        ("bigcode/starcoder2-15b", {4096: 40}),
        ("XiaomiMiMo/MiMo-V2-Flash", {128: 39, None: 9}),
    ],
)
def test_windows_of_the_layers(model: str, expected: dict[int | None, int]) -> None:
    """Each family's own pattern; a window that is switched off, null or as long as the context is none."""
    assert windows(find_model(model)) == expected


@pytest.mark.parametrize(
    ("model", "linear", "full"),
    [
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 36, 12),
        ("Qwen/Qwen3.5-27B", 48, 16),
        ("nvidia/Nemotron-H-56B-Base-8K", 54, 10),
        ("ai21labs/Jamba-v0.1", 28, 4),
        ("ibm-granite/granite-4.0-h-small", 36, 4),
        ("MiniMaxAI/MiniMax-Text-01", 70, 10),
        ("LiquidAI/LFM2-1.2B", 10, 6),
        ("tiiuae/falcon-mamba-7b", 64, 0),
    ],
)
def test_hybrids_have_few_layers_with_a_cache(model: str, linear: int, full: int) -> None:
    """The rest holds a constant state per sequence."""
    groups = find_model(model).groups
    assert sum(group.count for group in groups if isinstance(group.attention, LinearAttention)) == linear
    assert sum(group.count for group in groups if isinstance(group.attention, FullAttention)) == full


def test_the_state_of_a_gated_delta_net() -> None:
    """Qwen3-Next: 32 value heads of 128 x 128, and three tokens of 8,192 convolved columns."""
    linear = find_model("Qwen/Qwen3-Next-80B-A3B-Instruct").groups[0].attention
    assert isinstance(linear, LinearAttention)
    assert (linear.state_elements, linear.conv_elements) == (32 * 128 * 128, 3 * 8192)


@pytest.mark.parametrize(
    ("model", "bytes_each"),
    [
        ("Qwen/Qwen3.5-27B", 4),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 4),
        ("nvidia/Nemotron-H-8B-Base-8K", 4),
        ("moonshotai/Kimi-Linear-48B-A3B-Instruct", 4),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", 2),
        ("MiniMaxAI/MiniMax-Text-01", 2),
        ("LiquidAI/LFM2-1.2B", 2),
    ],
)
def test_states_that_the_config_wants_in_fp32(model: str, bytes_each: int) -> None:
    """Qwen3.5 and Nemotron 3 say so by two names; Nemotron-H and Kimi's delta attention have it without a word."""
    mixers = [g.attention for g in find_model(model).groups if isinstance(g.attention, LinearAttention)]
    assert {mixer.state_bytes_per_element for mixer in mixers} == {bytes_each}


def test_llama_4_attends_in_chunks_on_three_layers_of_four() -> None:
    """Scout's chunked layers have 8,192 tokens; Maverick has experts on every second layer."""
    scout = find_model("meta-llama/Llama-4-Scout-17B-16E-Instruct")
    chunked = [
        g.count for g in scout.groups if isinstance(g.attention, FullAttention) and g.attention.chunk_tokens
    ]
    assert sum(chunked) == 36
    maverick = find_model("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
    assert sum(group.count for group in maverick.groups if isinstance(group.mlp, Experts)) == 24


def test_mla_caches_one_latent_and_sparse_models_an_index_beside_it() -> None:
    """DeepSeek-V3: 512 + 64 elements; V3.2 reads the best 2,048 tokens by keys of 128; three dense layers come first."""
    plain, sparse = find_model("deepseek-ai/DeepSeek-V3"), find_model("deepseek-ai/DeepSeek-V3.2")
    latent = plain.groups[0].attention
    assert isinstance(latent, LatentAttention)
    assert (latent.kv_rank, latent.rope_dim, latent.sparse_top_k) == (512, 64, None)
    assert [group.count for group in plain.groups] == [3, 58]
    assert plain.mtp_layers == 1
    indexed = sparse.groups[0].attention
    assert isinstance(indexed, LatentAttention)
    assert (indexed.sparse_top_k, indexed.indexer_dim) == (2048, 128)


def test_glm_5_2_shares_indexers_between_layers() -> None:
    """Only layers with an indexer of their own count and cache one."""
    own = [
        group.count
        for group in find_model("zai-org/GLM-5.2").groups
        if isinstance(group.attention, LatentAttention) and group.attention.indexer_dim
    ]
    kinds = model_config("zai-org/GLM-5.2")["indexer_types"]
    assert sum(own) == kinds.count("full") < 78


def test_deepseek_v4_compresses_what_is_older_than_its_window() -> None:
    """21 of 43 layers keep an entry for 4 tokens, 20 one for 128; 284 billion parameters, 13 for each token (its card)."""
    found = find_model("deepseek-ai/DeepSeek-V4-Flash")
    entries = {g.attention.kv_rank: g.count for g in found.groups if isinstance(g.attention, LatentAttention)}
    params = count_params(found)
    assert entries == {128: 21, 4: 20}
    assert round(params.total / 1e9) == 284
    assert round(params.active_per_token / 1e9) == 13


@pytest.mark.parametrize(
    ("model", "active"),
    [
        ("openai/gpt-oss-120b", 5.13),
        ("Qwen/Qwen3-30B-A3B", 3.34),
        ("deepseek-ai/DeepSeek-V3", 37.55),
        ("mistralai/Mixtral-8x7B-v0.1", 12.88),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 3.58),
    ],
)
def test_active_parameters_are_the_cards(model: str, active: float) -> None:
    """Cards count the embedding with the active ones (gpt-oss and DeepSeek do not): within 2 % of what they say."""
    arch = find_model(model)
    params = count_params(arch)
    with_table = params.active_per_token + (0 if "gpt-oss" in model else params.embedding)
    assert with_table == pytest.approx(active * 1e9, rel=0.02)


def test_tied_heads_are_counted_once() -> None:
    """By the config, or by the family's rule where the config is silent."""
    assert not read().tied_embeddings
    assert read(model_type="gemma").tied_embeddings
    assert count_params(read()).total - count_params(read(tie_word_embeddings=True)).total == 64 * 100


def test_text_models_inside_of_multimodal_ones_are_found() -> None:
    """The language model's own section counts, with the defaults that its family gives; the tower is added."""
    llava = find_model("llava-hf/llava-1.5-7b-hf")
    assert (llava.layers, llava.hidden, llava.vocab) == (32, 4096, 32064)
    assert llava.vision_params > 3e8
    unknown = architecture_from_config(
        "m",
        {
            "text_config": LLAMA,
            "vision_config": {"model_type": "new", "hidden_size": 32, "num_hidden_layers": 2},
        },
    )
    assert "estimated" in unknown.notes[0]


def test_what_is_not_known_is_said() -> None:
    """An unknown type is read as a Llama, a key that smells of sizes is named: both in the notes, neither silently."""
    assert read().notes == ()
    assert "'brand_new'" in read(model_type="brand_new").notes[0]
    assert "engram_experts" in read(engram_experts=3).notes[0]


@pytest.mark.parametrize("model", ["MiniMaxAI/MiniMax-M3", "nvidia/MiniMax-M3-NVFP4"])
def test_an_indexer_that_is_not_counted_is_said(model: str) -> None:
    """MiniMax-M3 chooses blocks by an indexer whose layout is not known here; DeepSeek-V3.2's is counted."""
    assert any("indexer" in note for note in find_model(model).notes)
    assert not any("indexer" in note for note in find_model("deepseek-ai/DeepSeek-V3.2").notes)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bert", "hidden_size": 1}, "no causal language model"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "no causal language model"),
        ({}, "no model's config"),
        ({**LLAMA, "num_hidden_layers": None, "model_type": "qwen3"}, "num_hidden_layers"),
        ({**LLAMA, "vocab_size": "many"}, "vocab_size"),
        ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads"),
        ({**LLAMA, "layer_types": ["full_attention"]}, "1 layers' kinds"),
        ({**LLAMA, "layer_types": ["spiral"] * 4}, "spiral"),
        ({**LLAMA, "model_type": "nemotron-nas"}, "block_configs"),
    ],
)
def test_what_can_not_be_planned_ends_in_a_sentence(config: dict[str, Any], words: str) -> None:
    """It names the model and the field."""
    with pytest.raises(ConfigError, match=words) as told:
        architecture_from_config("some/model", config)
    assert "some/model" in str(told.value)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text", "qwen3", "brand_new"])
def test_missing_sizes_are_named_all_at_once(model_type: str) -> None:
    """A config by itself holds its sizes: none of them is taken from another model of the type, nor from Llama."""
    with pytest.raises(ConfigError) as told:
        architecture_from_config("m", {"model_type": model_type, "hidden_size": 64})
    for key in ("num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"):
        assert f"'{key}'" in str(told.value)
    with pytest.raises(ConfigError, match="'intermediate_size'"):
        read(model_type=model_type, intermediate_size=None)


def test_what_a_section_leaves_out_is_its_types_default_with_a_note() -> None:
    """transformers writes of a multimodal model's section only what differs; a type of unknown defaults has none."""
    found = architecture_from_config("m", {"text_config": {"model_type": "llama", "vocab_size": 32064}})
    assert (found.hidden, found.layers, found.vocab) == (4096, 32, 32064)
    assert "num_hidden_layers 32" in found.notes[0]
    with pytest.raises(
        ConfigError, match="'num_hidden_layers', 'num_attention_heads' and 'intermediate_size'"
    ):
        inner = {"model_type": "qwen3", "vocab_size": 100, "hidden_size": 64}
        architecture_from_config("m", {"text_config": inner})


def test_widths_that_a_type_derives_need_not_be_told() -> None:
    """GPT-2's MLP is four times as wide as the model unless its config says otherwise."""
    told = {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 100,
        "n_positions": 512,
    }
    assert architecture_from_config("m", told).groups[0].mlp == DenseMlp(256, gated=False, bias=True)


def test_everything_that_ships_can_be_read() -> None:
    """Every model has a source, layers, a context but for Mambas, and is found by its own name."""
    for name in known_models():
        found = find_model(name)
        assert found.source, name
        assert found.layers > 0, name
        assert found.max_position > 0 or "mamba" in name, name
        assert count_params(found).total > 1e7, name


def test_a_context_that_is_not_told_bounds_no_plan() -> None:
    """Where no longest context is known, requests get what their lengths ask for, not zero tokens."""
    told = read(model_type="qwen3", max_position_embeddings=None)
    assert told.max_position == 0
    assert Wish(input_tokens=500, output_tokens=200).context_for(told.max_position) == 4096
    assert "max_position_embeddings 2048" in read(max_position_embeddings=None).notes[0]


MIXTURE = {"num_experts": 8, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 0},
        {"num_key_value_heads": []},
        {"num_key_value_heads": [[1], [2]]},
        {"hidden_size": float("nan")},
        {"hidden_size": float("inf")},
        {"hidden_size": [0, 0]},
        {"vocab_size": 10**30},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -4},
        {"head_dim": 0},
        {"layer_types": ["sliding_attention"] * 4, "sliding_window": "x"},
        {**MIXTURE, "num_experts_per_tok": 99},
        {**MIXTURE, "moe_layer_freq": [1]},
        {**MIXTURE, "mlp_layer_types": ["sparse"]},
        {**MIXTURE, "mlp_only_layers": 3},
        {**MIXTURE, "moe_layers_enum": "a,b"},
        {"model_type": "nemotron-nas", "block_configs": [{"attention": {}, "ffn": {}}]},
        {"model_type": "nemotron-nas", "block_configs": ["x"]},
        {"model_type": "kimi_linear", "linear_attn_config": {"full_attn_layers": 4}},
        {"model_type": "gemma3_text", "sliding_window_pattern": ""},
        {"model_type": "mamba2", "num_heads": 0, "state_size": 3},
        {"num_kv_shared_layers": 4},
        {"model_type": "lfm2", "layer_types": ["conv"] * 4, "conv_L_cache": 1},
        {"vision_config": {"model_type": "clip_vision_model", "patch_size": 0}},
    ],
)
def test_values_that_no_model_has_are_an_error(changes: dict[str, Any]) -> None:
    """Wrong kinds, short lists, zeros, and numbers that would fill the memory: never a traceback, nor a plan."""
    with pytest.raises(ConfigError, match=r"^m\b") as found:
        read(**changes)
    assert str(found.value).encode()


def test_what_can_t_be_read_is_named() -> None:
    """The key that was read last, and its value."""
    with pytest.raises(ConfigError, match=r"near 'moe_layer_freq', which is \[1\]"):
        read(**MIXTURE, moe_layer_freq=[1])


@pytest.mark.parametrize(("said", "tied"), [("false", False), ("True", True), (False, False), (1, True)])
def test_a_flag_may_be_a_text(said: object, tied: bool) -> None:
    """A quoted "false" is no yes."""
    assert read(tie_word_embeddings=said).tied_embeddings is tied


@pytest.mark.parametrize(
    "said",
    [
        {"quant_method": "compressed-tensors", "config_groups": {"g": "x"}},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"g": {"weights": {"num_bits": float("nan")}}},
        },
        {"quant_method": "fp8", "weight_block_size": []},
        {"quant_method": "fp8", "ignore": 5},
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": 1}},
        {"quant_method": ["\ud800"]},
    ],
)
def test_a_damaged_quantization_section_is_read_as_far_as_it_goes(said: dict[str, Any]) -> None:
    """Its sizes are those of what is understood; what is not stands in the notes, printable."""
    assert "".join(read(quantization_config=said).notes).encode().isascii()
