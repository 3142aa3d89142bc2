"""`inferry scale explain`: why a deployment has so many replicas now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, scaling_client_of
from inferry.cli.scale_words import counted, figure, figures, named, step

if TYPE_CHECKING:
    from inferry.admin.scaling_view import DecisionView, ReadingView, ScalingView


def explain(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name in the file.")],
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Show what its scaling sees now, what each rule wants, and what holds it back."""
    found = scaling_client_of(port).explain(deployment)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for line in explain_lines(found):
        typer.echo(line)


def explain_lines(found: ScalingView) -> Iterator[str]:
    """All of it, in the order in which one asks."""
    yield (
        f"{named(found.deployment, found.simulated)}: {counted(found.wanted, 'replica')} wanted, within {found.min} to "
        f"{found.max} of the file"
    )
    if found.by_hand is not None:
        yield (
            f"  by hand: {found.by_hand}; scaling rests until the file says another number or 'inferry scale "
            f"{found.deployment} auto'"
        )
    if found.leader:
        yield f"  decided by another process: {found.leader}"
    decision = found.decision
    if decision is None or found.looked_s_ago is None:
        yield f"  no look yet; the first one in {found.next_look_in_s:.0f} s"
        return
    yield f"  looked {found.looked_s_ago:.0f} s ago, next look in {found.next_look_in_s:.0f} s, every {found.every_s:g} s"
    change = f"{step(decision.was, decision.to)}: " if decision.was != decision.to else ""
    yield f"  {change}{decision.because}"
    if found.not_done:
        yield f"  can't be done now: {found.not_done}"
    yield from _rules(decision)
    yield from _seen(found, decision)


def _rules(decision: DecisionView) -> Iterator[str]:
    if decision.wishes:
        yield "rules:"
    for wish in decision.wishes:
        to = "can't tell" if wish.to is None else f"wants {wish.to}"
        yield f"  {wish.rule}: {to}: {wish.because}"
    if decision.alerts:
        yield "alerts:"
    for alert in decision.alerts:
        yield f"  {alert.rule}: {alert.because}"


def _seen(found: ScalingView, decision: DecisionView) -> Iterator[str]:
    yield f"seen: {counted(decision.serving, 'replica')} serving, {decision.coming} on the way"
    if decision.inputs:
        yield f"  {figures(decision.inputs)}"
    gateways = found.gateways
    if gateways is None and not found.wanted:
        yield "  gateways: not asked while the model is not loaded"
    elif gateways is None:
        yield "  gateways: no answer in time"
    else:
        yield (
            f"  gateways: {gateways.waiting} waiting, {gateways.in_flight} at replicas; {gateways.arrived} let in so "
            f"far, {gateways.ended} ended, {gateways.failed} of them failed"
        )
    for reading in found.readings:
        yield f"  {reading.replica}: {_reading(reading)}"
    started = "not known yet" if found.start_s is None else f"{found.start_s:.1f} s"
    yield f"  a replica's start takes: {started}"
    if found.failing:
        yield f"  replicas don't come up: {found.failing}"


def _reading(reading: ReadingView) -> str:
    if reading.age_s is None:
        return "told nothing yet"
    told = {
        "gpu_use": reading.gpu_use,
        "gpu_memory_use": reading.gpu_memory_use,
        "kv_cache_use": reading.kv_cache_use,
        "running": reading.running,
        "waiting": reading.waiting,
        **reading.own,
    }
    words = [f"{name} {figure(value)}" for name, value in told.items() if value is not None]
    return f"{', '.join(words) or 'nothing of its load'} ({reading.age_s:.1f} s old)"
