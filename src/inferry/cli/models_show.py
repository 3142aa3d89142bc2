"""`inferry models show`: what a model is made of, and how many bytes that takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from inferry.planner.architecture import Architecture, Attention, LayerGroup, Mlp
    from inferry.planner.setup import KvFormat

_GIB = 1024**3
_WEIGHTS = ("bf16", "fp8", "int8", "awq", "nvfp4")
_KV: tuple[KvFormat, ...] = ("bf16", "fp8")


def show(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A name (llama3.1:8b, Qwen/Qwen3-8B), hf:org/name to ask the hub, a folder, config.json or GGUF file. "
            "Without: all whose facts ship.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Show a model's architecture, its parameters by part, and its bytes per format. Fetches no weights."""
    if model is None:
        known = list(_known())
        lines = (f"  {each['name']:<50}{each['params'] / 1e9:>8.1f} B  {each['format']}" for each in known)
        typer.echo(json.dumps(known, indent=2) if as_json else "\n".join(lines))
        return
    from inferry.cli.model_facts import model_facts

    arch = model_facts(model, os.environ)
    typer.echo(json.dumps(as_document(arch), indent=2) if as_json else "\n".join(as_text(arch)))


def _known() -> Iterator[dict[str, Any]]:
    from inferry.planner.facts.model_catalog import find_model, known_models
    from inferry.planner.params import count_params

    for name in known_models():
        arch = find_model(name)
        yield {"name": name, "params": count_params(arch).total, "format": arch.native_format}


def as_document(arch: Architecture) -> dict[str, Any]:
    """Everything that the text shows, and the layers one by one."""
    from inferry.planner.params import count_params

    return {
        "name": arch.name,
        "source": arch.source,
        "context_tokens_max": arch.max_position,
        "format": arch.native_format,
        "params": asdict(count_params(arch)),
        "params_in_files": arch.params_exact,
        "bytes_in_files": arch.stored_bytes,
        "weight_bytes": dict(_weight_bytes(arch)),
        "kv_bytes_per_token": dict(_kv_bytes(arch)),
        "state_bytes_per_sequence": _state_bytes(arch),
        "architecture": asdict(arch),
        "notes": list(arch.notes),
    }


def as_text(arch: Architecture) -> Iterator[str]:
    """Lines for a terminal."""
    yield arch.name
    rows = [
        ("layers", f"{arch.layers}, width {arch.hidden:,}, vocabulary {arch.vocab:,}"),
        *((f"  {group.count} x", _layer_words(group)) for group in arch.groups),
        ("context", f"{arch.max_position:,} tokens" if arch.max_position else "not told"),
        ("stored as", _format_words(arch)),
        ("source", arch.source or "not told"),
    ]
    yield from (f"  {label:<12}{value}" for label, value in rows)
    yield ""
    yield from _params_lines(arch)
    yield ""
    yield "  weights, loaded on one device"
    yield from (f"    {weights:<12}{count / _GIB:8.2f} GiB" for weights, count in _weight_bytes(arch))
    if arch.stored_bytes is not None:
        yield f"    {'in its files':<12}{arch.stored_bytes / _GIB:8.2f} GiB"
    yield "  KV cache per token"
    yield from (f"    {kv:<12}{bytes_ / 1024:8.2f} KiB" for kv, bytes_ in _kv_bytes(arch))
    state = _state_bytes(arch)
    if state:
        yield f"  constant state of each sequence: {state / 1024**2:.1f} MiB"
    yield from (f"  note: {note}" for note in arch.notes)


def _params_lines(arch: Architecture) -> Iterator[str]:
    from inferry.planner.params import count_params

    params = count_params(arch)
    parts = {name.replace("_", " "): count for name, count in asdict(params).items() if count}
    active = parts.pop("active per token")
    total = parts.pop("total")
    yield f"  parameters    {total:>18,}"
    yield from (f"    {name:<12}{count:>18,}  {100 * count / total:5.1f} %" for name, count in parts.items())
    if active != total:
        yield f"  of use for each token {active:>10,}"
    if arch.params_exact is not None and arch.params_exact != total:
        yield f"  in its files  {arch.params_exact:>18,}"


def _layer_words(group: LayerGroup) -> str:
    return f"{_attention_words(group.attention)}; {_mlp_words(group.mlp)}"


def _attention_words(attention: Attention) -> str:
    from inferry.planner.architecture import FullAttention, LatentAttention, LinearAttention

    match attention:
        case FullAttention():
            kind = (
                "MHA"
                if attention.kv_heads == attention.heads
                else "MQA"
                if attention.kv_heads == 1
                else "GQA"
            )
            words = f"{kind}, {attention.heads} heads of {attention.head_dim}, {attention.kv_heads} for KV"
            if attention.window_tokens:
                words += f", window of {attention.window_tokens:,} tokens"
            if attention.chunk_tokens:
                words += f", chunks of {attention.chunk_tokens:,} tokens"
            return words + (", cache shared with an earlier layer" if attention.shares_kv else "")
        case LatentAttention(heads=0):
            return f"compressed cache of the layers beside, {attention.kv_rank} elements per token"
        case LatentAttention():
            sparse = f", the best {attention.sparse_top_k:,} tokens" if attention.sparse_top_k else ""
            return (
                f"MLA, {attention.heads} heads, latent of {attention.kv_rank} + {attention.rope_dim}{sparse}"
            )
        case LinearAttention():
            elements = attention.state_elements + attention.conv_elements
            wide = ", in 32 bit" if attention.state_bytes_per_element == 4 else ""
            return f"linear, state of {elements:,} elements{wide}"
        case None:
            return "no mixer"


def _mlp_words(mlp: Mlp) -> str:
    from inferry.planner.architecture import DenseMlp, Experts

    match mlp:
        case DenseMlp():
            return f"MLP {mlp.intermediate:,}"
        case Experts():
            shared = f", shared {mlp.shared_intermediate:,}" if mlp.shared_intermediate else ""
            return f"{mlp.per_token} of {mlp.count} experts of {mlp.intermediate:,}{shared}"
        case None:
            return "no MLP"


def _format_words(arch: Architecture) -> str:
    group = f", groups of {arch.group_size}" if arch.group_size else ""
    parts = ", experts only" if arch.quantized_parts == "experts" else ""
    return f"{arch.native_format}{group}{parts}"


def _weight_bytes(arch: Architecture) -> Iterator[tuple[str, int]]:
    """As vLLM holds them on one device, tables of positions included; the model's own format first. A GGUF file's: as its
    name tells, where there is no file to tell."""
    from inferry.planner.setup import Setup
    from inferry.planner.weights import weight_bytes

    if arch.gguf_bits:
        yield "gguf", weight_bytes(arch, Setup("llamacpp", weights="gguf"))
    formats = dict.fromkeys((arch.native_format, *_WEIGHTS))
    for weights in formats:
        if weights != "gguf":
            yield weights, weight_bytes(arch, Setup("vllm", weights=weights))  # type: ignore[arg-type]


def _kv_bytes(arch: Architecture) -> Iterator[tuple[str, float]]:
    from inferry.planner.kv_cache import kv_bytes_per_token
    from inferry.planner.setup import Setup

    for kv in _KV:
        yield kv, kv_bytes_per_token(arch, Setup("vllm", kv=kv))


def _state_bytes(arch: Architecture) -> float:
    from inferry.planner.kv_cache import state_bytes_per_sequence
    from inferry.planner.setup import Setup

    return state_bytes_per_sequence(arch, Setup("vllm"))
