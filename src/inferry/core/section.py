"""What every section of the deployment file has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ByteSize, ConfigDict, ValidationInfo, model_validator

_NUMBERS: tuple[object, ...] = (int, float, int | None, float | None, ByteSize)


class Section(BaseModel):
    """A group of keys: frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _switch_is_no_number(cls, data: object) -> object:
        # YAML reads `replicas: yes` as true, which pydantic would take for 1. As a word, it is refused.
        if not isinstance(data, dict):
            return data
        numbers = {name for name, field in cls.model_fields.items() if field.annotation in _NUMBERS}
        return {
            key: str(value).lower() if isinstance(value, bool) and key in numbers else value
            for key, value in data.items()
        }


def not_above(section: Section, first: str, most: str) -> None:
    """Raises ValueError if the number `first` is above `most`, and both are written: a default contradicts nothing."""
    low, high = getattr(section, first), getattr(section, most)
    if {first, most} <= section.model_fields_set and low > high:
        raise ValueError(
            f"'{first}' is {low:g}, which is more than '{most}' ({high:g}): lower it, or raise '{most}'"
        )


def room_for(section: Section, first: str, most: str) -> None:
    """For a wait `first` that doubles up to `most`: if that is left out, it is no less than `first`.

    Raises ValueError as `not_above`.
    """
    not_above(section, first, most)
    if first in section.model_fields_set:
        # Past pydantic: the section is frozen, and `most` still counts as left out.
        vars(section)[most] = max(getattr(section, first), getattr(section, most))


def bound_bytes(schema: dict[str, Any]) -> None:
    """Write a ByteSize's bounds as JSON Schema has them; pydantic writes them in words that it has not."""
    schema["anyOf"][1] |= {"minimum": schema.pop("ge"), "maximum": schema.pop("le")}


def is_reference(value: object, info: ValidationInfo) -> bool:
    """Whether `value` came wholly from the environment; a secret written in the file would be stored in clear.

    Also true where nobody knows: for values that did not come from a file.
    """
    referenced = (info.context or {}).get("referenced_values", None)
    return referenced is None or str(value) in referenced


def password_as_reference(value: object, info: ValidationInfo) -> object:
    """`value`, a URL; raises ValueError if a user or password is written in the file itself."""
    if isinstance(value, str) and "@" in value and not is_reference(value, info):
        raise ValueError(
            "a password in the file would be stored in clear: write ${NAME} and set NAME outside"
        )
    return value
