"""The part of `inferry status` about names over several deployments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferry.admin.names_view import NamePlace, NameStatus
    from inferry.core.public_names import PublicName


def names_tables(names: Sequence[NameStatus]) -> Iterator[RenderableType]:
    """One table over all names; nothing where the file has none."""
    if not names:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "DEPLOYMENT", "SHARE", "REQUESTS", "FELL BACK"):
        right = title in ("REQUESTS", "FELL BACK")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for name in names:
        sticky = "" if name.sticky == "none" else f" (sticky: {name.sticky})"
        for index, place in enumerate(name.places):
            table.add_row(
                f"{name.name}{sticky}" if index == 0 else "",
                place.deployment,
                _share(place),
                _count(place.requests),
                _count(place.left),
            )
    yield ""
    yield table


def _share(place: NamePlace) -> str:
    match place.role:
        case "fallback":
            return "fallback"
        case "shadow":
            return f"shadow, {place.percent:g} %"
    return f"{place.percent:g} %"


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


def in_words(public: PublicName) -> str:
    """`chat-v1 90, chat-v2 10; fallbacks chat-small; shadow chat-v3`, for one line."""
    parts = [", ".join(f"{each.deployment} {each.weight}" for each in public.split)]
    if public.fallbacks:
        parts.append(f"fallbacks {', '.join(public.fallbacks)}")
    if public.shadow:
        parts.append(f"shadow {', '.join(each.deployment for each in public.shadow)}")
    return "; ".join(parts)
