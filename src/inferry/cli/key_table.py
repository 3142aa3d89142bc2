"""Keys for people: as a table, and one by one."""

from __future__ import annotations

from inferry.admin.key_view import KeyView
from inferry.core.limits import Limits

SHORT_LIMITS = {
    "requests_per_minute": "req/min",
    "tokens_per_minute": "tok/min",
    "requests_in_flight": "in flight",
    "tokens_per_day": "tok/day",
    "tokens_per_month": "tok/month",
    "cost_per_day": "cost/day",
    "cost_per_month": "cost/month",
    "completion_tokens_max": "max answer",
    "prompt_tokens_max": "max prompt",
    "choices_max": "max n",
}
_TITLES = ("STATE", "TENANT", "NAME", "ID", "PREFIX", "SCOPES", "DEPLOYMENTS", "LIMITS", "CREATED", "EXPIRES")


def key_table(keys: list[KeyView]) -> str:
    """One line per key, under titles. Nothing is cut: an id that is cut can't be typed."""
    rows = [_TITLES, *(_cells(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def key_lines(key: KeyView) -> str:
    """One line per property."""
    lines = [
        f"id           {key.id}",
        f"tenant       {key.tenant}",
        f"name         {key.name}",
        f"state        {key.state}",
        f"prefix       {key.prefix}",
        f"scopes       {', '.join(key.scopes)}",
        f"deployments  {_deployments(key)}",
        f"priority     {key.priority}",
        f"created      {key.created_at}",
        f"expires      {key.expires_at or 'never'}",
    ]
    if not key.limits:
        lines.append("limits       none of its own")
    for name in (name for name in Limits.model_fields if name in key.limits):
        lines.append(f"limit        {name}: {key.limits[name]:,}")
    return "\n".join(lines)


def _cells(key: KeyView) -> tuple[str, ...]:
    limits = (f"{key.limits[name]:,} {short}" for name, short in SHORT_LIMITS.items() if name in key.limits)
    return (
        key.state,
        key.tenant,
        key.name,
        key.id,
        key.prefix,
        ",".join(key.scopes),
        _deployments(key),
        "; ".join(limits) or "-",
        key.created_at[:10],
        key.expires_at or "never",
    )


def _deployments(key: KeyView) -> str:
    return "all" if key.deployments is None else ",".join(key.deployments)
