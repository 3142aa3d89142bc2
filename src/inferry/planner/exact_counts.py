"""What the headers of a model's files add to its config: exact numbers of parameters and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inferry.core.tensor_info import TensorInfo

from .architecture import Architecture
from .params import count_params

_PACKED = frozenset({"I32", "U8", "I8"})
"""Types in which quantizers pack several weights in one element, so that elements are no parameters."""
_DIFFERENCE_MAX = 0.01
_BYTES: Mapping[str, float] = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "BF16": 2,
    "F16": 2,
    "I16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F4": 0.5,
}
"""Of one element (the safetensors format's README)."""


def with_tensors(arch: Architecture, tensors: Iterable[TensorInfo]) -> Architecture:
    """`arch` with the bytes and, where nothing is packed, the parameters of `tensors`.

    A difference of more than 1 % from what the config gives is said in the notes: then one of both is misread.
    """
    held = tuple(tensors)
    packed = any(tensor.stored_type in _PACKED and len(tensor.shape) > 1 for tensor in held)
    elements = sum(tensor.elements for tensor in held)
    return _with_totals(arch, elements, sum(tensor.stored_bytes for tensor in held), packed=packed)


def with_type_counts(arch: Architecture, elements_by_type: Mapping[str, int]) -> Architecture:
    """The same from a hub's summary. Bytes stay unknown where it names a type that is not known."""
    unknown = set(elements_by_type) - set(_BYTES)
    stored = sum(elements * _BYTES.get(kind, 0) for kind, elements in elements_by_type.items())
    packed = any(elements_by_type.get(kind, 0) > 0 for kind in _PACKED)
    found = _with_totals(arch, sum(elements_by_type.values()), round(stored), packed=packed)
    return replace(found, stored_bytes=None) if unknown else found


def _with_totals(arch: Architecture, elements: int, stored_bytes: int, *, packed: bool) -> Architecture:
    if not elements:
        return arch
    if packed:
        return replace(arch, stored_bytes=stored_bytes)
    counted = count_params(arch).total
    notes = arch.notes
    if abs(elements - counted) > _DIFFERENCE_MAX * elements:
        notes = (
            *notes,
            f"its files hold {elements:,} parameters, but its config is read as {counted:,}; plans use the latter",
        )
    return replace(arch, params_exact=elements, stored_bytes=stored_bytes, notes=notes)
