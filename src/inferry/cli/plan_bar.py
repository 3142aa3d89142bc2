"""A device's memory as one line of a terminal: what takes how much of it, each with a sign of its own."""

from __future__ import annotations

from inferry.planner.answers import MemoryPlan

GIB = 2**30
_PARTS = (
    ("weights", "█", 34),
    ("activations", "▓", 35),
    ("graphs", "▒", 33),
    ("engine", "░", 36),
    ("KV cache", "=", 32),
)
"""Name, sign and the terminal's colour."""
_FREE = "·"


def memory_bar(memory: MemoryPlan, device_name: str, width: int, *, colour: bool) -> str:
    """The heading, the bar and what its signs mean. Parts that are there have one sign at least."""
    sizes = dict(
        zip(
            (name for name, _, _ in _PARTS),
            (
                memory.weights,
                memory.activations,
                memory.graphs,
                memory.runtime,
                memory.state + max(memory.kv, 0),
            ),
            strict=True,
        )
    )
    taken = sum(sizes.values())
    whole = max(memory.total, taken)
    room = max(min(width, 100) - 2, 20)
    bar, used = "", 0
    for name, sign, code in _PARTS:
        cells = min(max(round(room * sizes[name] / whole), 1 if sizes[name] else 0), room - used)
        used += cells
        bar += _painted(sign * cells, code, colour)
    bar += _FREE * (room - used)
    legend = [
        f"{_painted(sign, code, colour)} {name} {gib(sizes[name])}"
        for name, sign, code in _PARTS
        if sizes[name]
    ]
    free = memory.total - taken
    legend.append(f"{_FREE} free {gib(free)}" if free >= 0 else f"over by {gib(-free)}")
    title = f"MEMORY of each {device_name}: {gib(memory.total)} GiB"
    return "\n".join([title, f"[{bar}]", "  ".join(legend) + "  (GiB)"])


def gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.1f}" if abs(size_bytes) >= 0.05 * GIB else f"{size_bytes / GIB:.2f}"


def _painted(text: str, code: int, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and text else text
