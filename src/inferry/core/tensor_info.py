"""One tensor of a stored model: what its file says of it before the weights themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    shape: tuple[int, ...]
    stored_type: str
    """As the format names it, in upper case: `BF16`, `Q4_K`, `F8_E4M3`."""
    stored_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)
