"""The `facts:` section of the deployment file: devices and models that the planner does not know, or knows wrongly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, model_validator

from inferry.core.section import Section, bound_bytes

_Memory = Annotated[ByteSize, Field(ge=2**20, le=2**50, json_schema_extra=bound_bytes)]
_Rate = Annotated[float, Field(gt=0, le=1e6)]
_DAY = re.compile(r"20\d\d-\d\d-\d\d")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")


def _day(value: object) -> str:
    # YAML reads 2026-11-20 as a date; here it is text again.
    text = str(value)
    if not _DAY.fullmatch(text):
        raise ValueError(f"{text!r} is no day: write it as 2026-11-20")
    return text


def _capability(value: object) -> str:
    text = str(value)
    if not _CAPABILITY.fullmatch(text):
        raise ValueError(f"{text!r} is no compute capability: write it as 9.0")
    return text


_WITHOUT_LIKE = ("nameplate_memory", "bandwidth_gb_per_second", "tflops")
"""What nothing can be planned without."""


class OwnDevice(Section):
    """A GPU, CPU or Apple chip. With the name of one in the catalog, it takes its place; what is left out stays as there."""

    like: str | None = Field(
        None, max_length=200, description="A device of the catalog; keys that are left out are taken from it."
    )
    kind: Literal["gpu", "cpu", "apple"] | None = Field(None, description="Left out: as `like`, else `gpu`.")
    vendor: str | None = Field(
        None,
        max_length=100,
        description="`nvidia`, `amd`, `intel`, `huawei`: decides which engines run on it.",
    )
    nameplate_memory: _Memory | None = Field(None, description="As it is printed on the card: 80GiB.")
    usable_memory: _Memory | None = Field(
        None,
        description="What the driver reports as total, which is less than the nameplate. Left out: as much of it as of "
        "`like`, else all but 3 %.",
    )
    bandwidth_gb_per_second: _Rate | None = Field(None, description="Of its memory, in 10^9 bytes.")
    tflops: dict[Literal["fp32", "fp16", "bf16", "fp8", "int8", "fp4"], _Rate] | None = Field(
        None,
        description="10^12 operations/s by type, dense: data sheets often print twice that, with sparsity.",
    )
    compute_capability: Annotated[str, BeforeValidator(_capability)] | None = Field(
        None, description="CUDA's, as 9.0. An NVIDIA card that is `like` no other must say it."
    )
    link: str | None = Field(None, max_length=100, description="To its neighbours: `nvlink`, `pcie`.")
    link_gb_per_second: _Rate | None = Field(None, description="In one direction, in 10^9 bytes.")
    power_w: _Rate | None = Field(None, description="Watt under load.")
    usd_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        None, description="What one costs you; 0 for what is paid for already."
    )
    price_as_of: Annotated[str, BeforeValidator(_day)] | None = Field(
        None, description="Day of that price, as 2026-11-20. Left out: not known."
    )
    per_host: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="How many one machine has at most. Left out: as `like`, else 8."
    )
    aliases: list[str] = Field(default_factory=list, max_length=100, description="Other names for it.")

    @model_validator(mode="after")
    def _enough_is_known(self) -> OwnDevice:
        if (
            self.usable_memory is not None
            and self.nameplate_memory is not None
            and self.usable_memory > self.nameplate_memory
        ):
            raise ValueError(
                "'usable_memory' is more than 'nameplate_memory': a driver never reports more than there is"
            )
        return self

    def missing(self) -> list[str]:
        """Keys without which a device that is like no other can't be planned with."""
        return [key for key in _WITHOUT_LIKE if getattr(self, key) is None]


class OwnModel(Section):
    """A model by its config.json, or by the keys of one; both: the keys come before the file's."""

    config: str | None = Field(
        None,
        description="Path of a Hugging Face config.json, or of the folder that has it; relative to this file.",
    )
    fields: dict[str, Any] = Field(
        default_factory=dict,
        max_length=1000,
        description="Keys as in config.json: hidden_size, num_hidden_layers, ...",
    )

    @model_validator(mode="after")
    def _something_is_said(self) -> OwnModel:
        if self.config is None and not self.fields:
            raise ValueError("give 'config', the path of a config.json, or its keys under 'fields'")
        return self


class Facts(Section):
    """What the planner takes from you instead of from its own catalog."""

    devices: dict[str, OwnDevice] = Field(
        default_factory=dict,
        max_length=1000,
        description="By name; a name of the catalog replaces that device.",
    )
    models: dict[str, OwnModel] = Field(
        default_factory=dict, max_length=1000, description="By the name that `inferry plan` is given."
    )

    def resolved_against(self, folder: Path) -> Facts:
        """The same, with the paths of models made absolute below `folder`."""
        models = {
            name: model
            if model.config is None
            else model.model_copy(
                update={"config": str((folder / Path(model.config).expanduser()).absolute())}
            )
            for name, model in self.models.items()
        }
        return self.model_copy(update={"models": models})
