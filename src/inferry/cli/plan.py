"""`inferry plan`: which engine, which hardware, how many, what it will do and cost. Starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.cli.plan_model import PlannedModel
    from inferry.planner.facts.own_facts import OwnFacts
    from inferry.planner.learning import Launch
    from inferry.planner.recommend import NothingFits, Recommendation
    from inferry.planner.sizing import Physics
    from inferry.planner.wish import Hardware, Wish

_LOAD, _HARDWARE, _CHOICE, _OUT = "Load", "Hardware", "Choice", "Answer"


def _option(
    names: str, group: str, says: str, shape: str | None = None, **more: Any
) -> typer.models.OptionInfo:
    found = typer.Option(
        *names.split(), metavar=shape, help=says, rich_help_panel=group, show_default=False, **more
    )
    assert isinstance(found, typer.models.OptionInfo)
    return found


def plan(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A repository, hf:org/name to ask its hub, a folder, config.json or GGUF file, or a pulled model.",
        ),
    ],
    gpu: Annotated[
        list[str] | None,
        _option("--gpu -g", _HARDWARE, "Such devices, as a100-80g; several with commas.", "NAME"),
    ] = None,
    count: Annotated[
        int | None, _option("--count -n", _HARDWARE, "At most so many. Without: as many as it takes.", "N")
    ] = None,
    here: Annotated[bool, _option("--here", _HARDWARE, "This machine's GPUs; without any, its CPU.")] = False,
    facts: Annotated[
        Path | None,
        _option("--facts", _HARDWARE, "A file whose 'facts:' add devices, prices and models.", "FILE"),
    ] = None,
    users: Annotated[
        int | None, _option("--users -u", _LOAD, "People at once, each asking again when answered.", "N")
    ] = None,
    rps: Annotated[float | None, _option("--rps -r", _LOAD, "Requests per second.", "R")] = None,
    input_tokens: Annotated[
        int, _option("--input -i", _LOAD, "Tokens of a prompt, on average. Default: 500.", "TOKENS")
    ] = 500,
    output_tokens: Annotated[
        int, _option("--output -o", _LOAD, "Tokens of an answer, on average. Default: 200.", "TOKENS")
    ] = 200,
    context: Annotated[
        int | None,
        _option("--context", _LOAD, "Longest prompt and answer. Without: 4 times the mean.", "TOKENS"),
    ] = None,
    slo: Annotated[
        str | None, _option("--slo", _CHOICE, "ttft=200ms,itl=40ms. Default: ttft=2s,itl=50ms.", "BOUNDS")
    ] = None,
    engine: Annotated[
        list[str] | None, _option("--engine -e", _CHOICE, "Only these; several with commas.", "NAME")
    ] = None,
    quant: Annotated[
        str,
        _option(
            "--quant -q",
            _CHOICE,
            "auto (only where the model as it is does not do), native, any, or a format as fp8.",
            "FORMAT",
        ),
    ] = "auto",
    budget: Annotated[float | None, _option("--budget", _CHOICE, "At most so much per hour.", "USD")] = None,
    as_json: Annotated[bool, _option("--json", _OUT, "For programs.")] = False,
    write: Annotated[Path | None, _option("--write -w", _OUT, "Write a deployment file.", "FILE")] = None,
    force: Annotated[bool, _option("--force", _OUT, "Overwrite what is there.")] = False,
    svg: Annotated[Path | None, _option("--svg", _OUT, "Draw latency over load.", "FILE")] = None,
    explain: Annotated[bool, _option("--explain", _OUT, "Each number with its formula and source.")] = False,
    no_learning: Annotated[
        bool, _option("--no-learning", _OUT, "By facts alone, without what launches here taught.")
    ] = False,
    compare_engines: Annotated[
        bool, _option("--compare-engines", _OUT, "The engines of the field for this model, side by side.")
    ] = False,
) -> None:
    """Say which engine and hardware serve a model, what they will do and what they cost; nothing is started."""
    from inferry.cli.facts_file import read_own_facts
    from inferry.cli.plan_learned import physics_here
    from inferry.cli.plan_model import planned_model
    from inferry.cli.plan_options import check_numbers, engines_for, engines_of, gpus_of, slo_of
    from inferry.cli.plan_refusals import check_files, check_writable, refusals
    from inferry.planner.checkpoints import check_quantization
    from inferry.planner.recommend import recommend
    from inferry.planner.wish import Wish

    with refusals(as_json=as_json):
        check_numbers(users, rps, input_tokens, output_tokens, count, context, budget)
        asked, names, bounds = engines_of(engine), gpus_of(gpu), slo_of(slo)
        check_files(write, svg, force=force)
        own = read_own_facts(facts, os.environ)
        chosen = planned_model(model, own, os.environ)
        engines = asked or engines_for(chosen.architecture, quant)
        if write is not None:
            check_writable(chosen, engines, write)
        check_quantization(chosen.architecture, quant)
        wish = Wish(input_tokens, output_tokens, users, rps, bounds, context, budget, engines, quant)
        hardware = _hardware(names, count, own, here=here)
        physics, launches = physics_here(os.environ, learning=not no_learning)
        if not hardware:
            from inferry.cli.plan_here import HereOptions, plan_here

            refused = {"--svg": svg, "--compare-engines": compare_engines, "--budget": budget}
            options = HereOptions(asked, write, force, explain, as_json, quant, refused)
            if not plan_here(chosen, wish, launches, options, _columns()):
                raise typer.Exit(1)
            return
        found = recommend(chosen.architecture, hardware, wish, physics)
    job = _Job(chosen, wish, hardware, for_rent(own), physics, launches, as_json=as_json, explain=explain)
    if compare_engines:
        job.say_comparison()
        return
    good = job.say(found)
    if svg is not None:
        job.draw(found, svg)
    if write is not None:
        job.write(found, write, force=force)
    if not good:
        raise typer.Exit(1)


def _hardware(
    names: tuple[str, ...], count: int | None, own: OwnFacts, *, here: bool
) -> tuple[Hardware, ...]:
    """The devices to choose among: named ones, this machine's, or all that the catalog has a price of."""
    from inferry.planner.wish import Hardware

    if here and names:
        raise ConfigError("--here and --gpu: say one of them.")
    if here:
        return _this_machine(own)
    if names:
        return tuple(Hardware(own.find_device(name), count) for name in names)
    return tuple(Hardware(each.device, count) for each in for_rent(own))


def for_rent(own: OwnFacts) -> tuple[Hardware, ...]:
    """GPUs of users and of the catalog with a price that anybody gets (no market place's lowest), of the maker whose speed
    was measured."""
    from inferry.planner.reasons import MEASURED_VENDOR
    from inferry.planner.wish import Hardware

    return tuple(
        Hardware(each)
        for each in own.known_devices()
        if each.price is not None
        and each.price.kind != "market place"
        and each.kind == "gpu"
        and each.vendor == MEASURED_VENDOR
    )


def _this_machine(own: OwnFacts) -> tuple[Hardware, ...]:
    """Its GPUs, each kind with its number; empty where it has none. Raises ConfigError where nobody knows those it has."""
    from collections import Counter

    from inferry.cli.hardware_here import device_list, machine_here, unknown_gpus
    from inferry.planner.wish import Hardware

    machine = machine_here(os.environ)
    gpus = [each for each in device_list(machine, own.devices) if each.kind != "cpu"]
    if not gpus and (unknown := unknown_gpus(machine, own.devices)):
        raise ConfigError(
            f"--here: the planner does not know this machine's {unknown[0]}. Describe it under facts.devices "
            "(docs/hardware.md), or name a device that is like it: --gpu rtx4090."
        )
    counts = Counter(each.name for each in gpus)
    by_name = {each.name: each for each in gpus}
    return tuple(Hardware(by_name[name], number) for name, number in counts.items())


@dataclass(frozen=True, slots=True)
class _Job:
    """One question, and the ways to answer it."""

    model: PlannedModel
    wish: Wish
    hardware: tuple[Hardware, ...]
    rentable: tuple[Hardware, ...]
    physics: Physics
    launches: Sequence[Launch]
    as_json: bool
    explain: bool

    def say(self, found: Recommendation | NothingFits) -> bool:
        """True where it is what was asked for."""
        from inferry.planner.recommend import NothingFits

        if isinstance(found, NothingFits):
            self._say_no_fit(found)
            return False
        return self._say_found(found)

    def _say_found(self, found: Recommendation) -> bool:
        from inferry.cli.plan_json import answer_json
        from inferry.cli.plan_learned import learned_json, learned_text
        from inferry.cli.plan_text import answer_text
        from inferry.planner.relief import reliefs

        arch = self.model.architecture
        helps = (
            ()
            if found.best.good
            else reliefs(arch, self.hardware, self.rentable, self.wish, found.best, self.physics)
        )
        if self.as_json:
            learned = learned_json(arch, found.best, self.launches)
            _echo_json({**answer_json(arch, self.wish, found, helps), "learned": learned})
            return found.best.good
        typer.echo(answer_text(arch, self.wish, found, helps, _columns(), colour=_colour()))
        if lines := learned_text(arch, found.best, self.launches):
            typer.echo(f"\n{lines}")
        if self.explain:
            from inferry.cli.plan_explain import explain_text

            typer.echo("\n" + explain_text(arch, self.wish, found.best, self.physics, _columns()))
        return found.best.good

    def _say_no_fit(self, found: NothingFits) -> None:
        from inferry.cli.plan_json import no_fit_json
        from inferry.cli.plan_no_fit import engines_that_run_it, no_fit_text, not_supported_text
        from inferry.planner.answers import DoesNotFit
        from inferry.planner.fitting import check_fit
        from inferry.planner.sizing import KV_MARGIN

        arch = self.model.architecture
        if found.nearest is None:
            others = engines_that_run_it(arch, self.hardware, self.wish, self.physics.supports)
            if self.as_json:
                _echo_json({**no_fit_json(arch, self.wish, None, found.unsupported), "other_engines": others})
            else:
                typer.echo(not_supported_text(arch, found.unsupported, others, _columns()))
            return
        device = found.nearest.candidate.hardware.device
        answer = check_fit(
            arch,
            device,
            found.nearest.memory.setup,
            context_tokens=self.wish.context_for(arch.max_position),
            devices=tuple(each.device for each in self.rentable),
            memory=self.physics.memory,
            margin=KV_MARGIN,
        )
        assert isinstance(answer, DoesNotFit)  # by the search's own law
        if self.as_json:
            _echo_json(no_fit_json(arch, self.wish, answer, ()))
        else:
            hardware = found.nearest.candidate.hardware
            typer.echo(no_fit_text(arch, hardware, answer, _columns(), colour=_colour()))

    def say_comparison(self) -> None:
        from inferry.cli.plan_compare import compare_json, compare_text

        arch = self.model.architecture
        if self.as_json:
            _echo_json(compare_json(arch, self.hardware, self.wish, self.physics))
        else:
            typer.echo(compare_text(arch, self.hardware, self.wish, self.physics, _columns()))

    def draw(self, found: Recommendation | NothingFits, path: Path) -> None:
        from inferry.cli.plan_svg import curve_svg
        from inferry.planner.recommend import Recommendation

        if isinstance(found, Recommendation):
            text = curve_svg(self.model.architecture, found.best, self.wish, self.physics)
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{path} can't be written: {error.strerror or error}") from error
            typer.echo(f"Drew {path}", err=True)

    def write(self, found: Recommendation | NothingFits, path: Path, *, force: bool) -> None:
        from inferry.cli.plan_file import file_text, write_file
        from inferry.planner.recommend import Recommendation

        if not isinstance(found, Recommendation):
            typer.echo(f"{path} is not written: there is nothing that fits.", err=True)
            return
        write_file(path, file_text(self.model, found.best, self.wish), force=force)
        typer.echo(f"Wrote {path}. Next: inferry config check {path}", err=True)


def _echo_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
