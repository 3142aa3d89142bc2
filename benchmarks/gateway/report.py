"""What a run found, as text, Markdown tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.gateway.figures import ADDED_P99_MAX_US, Figures, Ratio, ratios
from benchmarks.gateway.processes import Memory

_SHOWN = {"request_us": "CPU per request", "token_us": "CPU per streamed token"}


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's result."""

    name: str
    version: str
    figures: Figures
    before: Memory
    after: Memory
    control_before: Memory
    control_after: Memory
    serving_processes: int
    notes: list[str]


@dataclass(slots=True)
class Report:
    """One run."""

    about: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def ratios(self) -> list[Ratio]:
        return ratios({row.name: row.figures for row in self.rows})

    def as_text(self) -> str:
        parts = ["\n".join(f"{name}: {value}" for name, value in self.about.items())]
        parts += [_aligned(table) for table in self._tables()]
        parts += [f"{row.name}: {', '.join(row.notes)}" for row in self.rows if row.notes]
        parts += [f"left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n\n".join([*parts, *self.remarks]) + "\n"

    def as_markdown(self) -> str:
        about = "\n".join(f"- {name}: {value}" for name, value in self.about.items())
        parts = [about, *(_markdown(table) for table in self._tables())]
        parts += [f"`{row.name}`: {', '.join(row.notes)}." for row in self.rows if row.notes]
        parts += [f"Left out: `{name}`: {why}." for name, why in self.left_out.items()]
        return "\n\n".join([*parts, *self.remarks]) + "\n"

    def as_json(self) -> str:
        found: dict[str, Any] = {
            "about": self.about,
            "rows": [asdict(row) for row in self.rows],
            "ratios": [{**asdict(ratio), "met": ratio.met} for ratio in self.ratios],
            "left_out": self.left_out,
            "remarks": self.remarks,
        }
        return json.dumps(found, indent=2) + "\n"

    def _tables(self) -> list[list[list[str]]]:
        return [
            table
            for table in (self._costs(), self._speeds(), self._memory(), self._ratios())
            if len(table) > 1
        ]

    def _costs(self) -> list[list[str]]:
        table = [
            [
                "proxy",
                "version",
                "CPU us per request",
                "at half load",
                "per streamed token",
                "per short stream",
            ]
        ]
        for row in self.rows:
            best, middle = row.figures.best, row.figures.median
            table.append([
                row.name, row.version, _both(best.request_us, middle.request_us, 1),
                _both(best.half_load_request_us, middle.half_load_request_us, 1),
                _both(best.token_us, middle.token_us, 2), _both(best.short_stream_us, middle.short_stream_us, 0),
            ])  # fmt: skip
            if row.control_before.rss_bytes:
                table.append([
                    f"{row.name}, its control process", "",
                    _both(best.control_request_us, middle.control_request_us, 1), "",
                    _both(best.control_token_us, middle.control_token_us, 2), "",
                ])  # fmt: skip
        return table

    def _speeds(self) -> list[list[str]]:
        table = [
            [
                "proxy",
                "requests/s",
                "core busy",
                "added p50 us",
                "added p99 us",
                "direct p99 us",
                "busy, streams",
            ]
        ]
        for row in self.rows:
            best, middle = row.figures.best, row.figures.median
            table.append([
                row.name, _both(best.requests_per_s, middle.requests_per_s, 0), f"{middle.busy:.0%}",
                _both(best.added_p50_us, middle.added_p50_us, 0), _both(best.added_p99_us, middle.added_p99_us, 0),
                f"{middle.direct_p99_us:.0f}", f"{middle.token_busy:.0%}",
            ])  # fmt: skip
        return table

    def _memory(self) -> list[list[str]]:
        table = [["proxy", "MB before", "MB after", "MB at most"]]
        for row in self.rows:
            table.append([row.name, *_mb(row.before.rss_bytes, row.after.rss_bytes, row.after.peak_bytes)])
            if row.control_before.rss_bytes:
                control = (
                    row.control_before.rss_bytes,
                    row.control_after.rss_bytes,
                    row.control_after.peak_bytes,
                )
                table.append([f"{row.name}, its control process", *_mb(*control)])
        return table

    def _ratios(self) -> list[list[str]]:
        table = [["Inferry's", "against", "ratio", "at most", ""]]
        for ratio in self.ratios:
            most = "" if ratio.most is None else f"{ratio.most:g}"
            table.append([_SHOWN[ratio.what], ratio.against, f"{ratio.value:.3f}", most, _verdict(ratio.met)])
        for row in self.rows:
            if row.name == "inferry" and len(table) > 0:
                added = row.figures.best.added_p99_us
                table.append(
                    ["added p99 at half load", "direct", f"{added / 1000:.2f} ms", f"{ADDED_P99_MAX_US / 1000:g} ms",
                     _verdict(added < ADDED_P99_MAX_US)]
                )  # fmt: skip
        return table


def _both(best: float, middle: float, digits: int) -> str:
    return f"{best:.{digits}f} ({middle:.{digits}f})"


def _mb(*sizes_bytes: int) -> list[str]:
    return [f"{size / 1e6:.0f}" for size in sizes_bytes]


def _verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "NOT MET"


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in table
    )  # fmt: skip


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
