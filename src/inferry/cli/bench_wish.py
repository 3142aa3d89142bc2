"""From all the words of `inferry bench` to what is to be measured."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from inferry.bench.goodput import parse_slo
from inferry.bench.plan import Price, RunPlan, Slo, Target
from inferry.bench.resilience import Blow
from inferry.bench.split import processes_for
from inferry.cli.bench_beside import beside
from inferry.cli.bench_plan import SEARCH_START_RATE, Words, arrivals_of, plan_of
from inferry.cli.bench_run import Wish
from inferry.cli.bench_target import Asked
from inferry.cli.bench_words import numbers, positive_s, rate, whole
from inferry.core.errors import ConfigError

GOAL_SHARE = 0.99
SEARCH_SLO = Slo(ttft_ms=2000, itl_ms=200)
"""Of a search that was given none: MLPerf Inference's limits for its Server scenario with Llama 2 70B."""

CURRENCY_CHARACTERS_MAX = 12


def words_of(given: dict[str, Any]) -> Words:
    """What was written for the load, with the one that a search or a sweep begins at."""
    words = Words(**{field.name: given[field.name] for field in dataclasses.fields(Words)})
    changes = [
        option
        for option in ("find_capacity", "sweep_rates", "sweep_concurrency")
        if given[option] not in (None, False)
    ]
    if "sweep_concurrency" in changes and len(changes) > 1:
        raise ConfigError(
            f"--sweep-concurrency and {_option(changes[0])} both change the load. Give one of them."
        )
    has_load = any(
        given[name] is not None for name in ("rate", "concurrency", "ramp", "steps", "trace_speed")
    )
    if not changes:
        return words
    if has_load and given["rate"] is None and given["concurrency"] is None:
        raise ConfigError(
            f"{_option(changes[0])} changes one load: give --rate or --concurrency, or neither."
        )
    if "sweep_concurrency" in changes:
        if given["rate"] is not None:
            raise ConfigError("--rate and --sweep-concurrency both say how much is sent. Give one of them.")
        users = numbers("--sweep-concurrency", given["sweep_concurrency"], whole)
        return dataclasses.replace(words, concurrency=int(users[0]))
    if has_load:
        return words
    return dataclasses.replace(words, rate=SEARCH_START_RATE)


def wish_of(given: dict[str, Any], words: Words, asked: Asked) -> Wish:
    """Raises ConfigError for what does not go together."""
    rates = () if given["sweep_rates"] is None else numbers("--sweep-rates", given["sweep_rates"])
    count = whole("--sweep-rates", given["sweep_rates"]) if len(rates) == 1 else None
    if rates and count is None and given["concurrency"] is not None:
        raise ConfigError("--concurrency and --sweep-rates both say how much is sent. Give one of them.")
    if given["sweep_concurrency"] is not None:
        loads: tuple[float, ...] = numbers("--sweep-concurrency", given["sweep_concurrency"], whole)
    else:
        loads = rates if count is None else ()
    searches = given["find_capacity"] or count is not None
    if given["find_capacity"] and loads:
        raise ConfigError(
            "--find-capacity finds its rates by itself: leave --sweep-rates out, or give it one number."
        )
    share = given["goodput_min"] if given["goodput_min"] is not None else GOAL_SHARE
    if searches and not 0 < share < 1:
        raise ConfigError(f"--goodput-min {share:g}: the goal of a search is above 0 and below 1.")
    plan = _plan(given, words, asked, searches=searches)
    return Wish(
        plan=plan,
        asked=asked,
        processes=given["processes"],
        goal_share=share if searches else None,
        loads=loads,
        loads_count=count,
        beside=_beside(given, asked, plan, alone=not searches and not loads),
        blow=_blow(given, asked, plan, alone=not searches and not loads and given["compare"] is None),
        engine=given["engine"],
        calibrate=given["calibrate"] is not False,
        quiet=given["quiet"],
    )


def _beside(
    given: dict[str, Any], asked: Asked, plan: RunPlan, *, alone: bool
) -> tuple[tuple[str, str], Target] | None:
    if given["compare"] is None:
        return None
    if not alone:
        raise ConfigError("--compare is of one load: leave --find-capacity and the sweeps out.")
    return beside(given["compare"], asked, plan.target)


def _blow(given: dict[str, Any], asked: Asked, plan: RunPlan, *, alone: bool) -> Blow | None:
    option = next(
        (name for name in ("kill_replica_after", "stop_replica_after") if given[name] is not None), None
    )
    if option is None:
        return None
    if not alone:
        raise ConfigError(f"{_option(option)} is for one run: leave searches, sweeps and --compare out.")
    after_s = positive_s(_option(option), given[option])
    if after_s >= plan.duration_s:
        raise ConfigError(
            f"{_option(option)} {given[option]}: must be within --duration, {plan.duration_s:g} s."
        )
    if given["kill_replica_after"] is not None and given["stop_replica_after"] is not None:
        raise ConfigError("--kill-replica-after and --stop-replica-after: one blow at a time.")
    victim = next((each for each in asked.replicas if each.pid is not None), None)
    if victim is None or victim.pid is None:
        raise ConfigError(
            f"{_option(option)}: TARGET must be a deployment of the Inferry that runs here, with a replica that it started."
        )
    kind: Literal["kill", "stop"] = "kill" if option == "kill_replica_after" else "stop"
    return Blow(kind=kind, replica=victim.name, pid=victim.pid, after_s=after_s)


def _plan(given: dict[str, Any], words: Words, asked: Asked, *, searches: bool) -> RunPlan:
    slo = Slo() if given["slo"] is None else parse_slo(given["slo"])
    if searches and slo == Slo():
        if words.no_stream or words.api == "embeddings":
            raise ConfigError(
                "--slo is missing: whole answers have only one time, so write for instance --slo e2e=2s."
            )
        slo = SEARCH_SLO
    processes = given["processes"] or processes_for(arrivals_of(words))
    plan = plan_of(words, asked.base_url, asked.model, asked.key_variable, slo, processes)
    return msgspec.structs.replace(plan, price=_price(given))


def _price(given: dict[str, Any]) -> Price | None:
    currency = given["currency"] or ""
    if given["price_per_hour"] is None:
        if currency:
            raise ConfigError(f"--currency {currency}: is of a price; give --price-per-hour with it.")
        return None
    if len(currency) > CURRENCY_CHARACTERS_MAX or not currency.isprintable():
        raise ConfigError(
            f"--currency: write a word of at most {CURRENCY_CHARACTERS_MAX} characters, as EUR."
        )
    if given["compare"] is not None:
        raise ConfigError(
            "--price-per-hour is of one place, and --compare asks two: run each by itself with its price."
        )
    return Price(per_hour=rate("--price-per-hour", str(given["price_per_hour"])), currency=currency)


def check_files(given: dict[str, Any]) -> None:
    """Before anything is measured: results that can't be written later would be lost."""
    seen: dict[Path, str] = {}
    for name in ("json", "csv", "html"):
        path = given[name]
        if path is None:
            continue
        if path.is_dir() or not path.parent.is_dir():
            why = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise ConfigError(f"--{name} {path}: {why}. Name a file in a folder that is there.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ConfigError(f"--{name} {path}: can't be written. Name a file that you may write.")
        if (other := seen.setdefault(path.resolve(), name)) != name:
            raise ConfigError(
                f"--{other} and --{name} both name {path}: one would replace the other. Name two files."
            )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
