"""Reads fields of a model's config under their several names, and remembers which ones it has looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inferry.core.errors import ConfigError

_SIZE_WORDS = re.compile(
    r"expert|rank|window|chunk|conv|ssm|mamba|state|latent|lora|shared|per_layer|block_config"
)
_NO_SIZE = re.compile(
    r"token|scaling|loss|coef|dropout|jitter|init|topk_method|group|norm_topk|dtype|bias|theta|use_cache|"
    r"router|act|max_window_layers|chunk_size|vocab_size|proj_bias|expand|time_step|kernels|chunk_size_feed|return|output|renormalize|scale|overlap"
)
_COUNT_MAX = 10**12
_SHOWN_MAX = 60


def as_flag(value: object) -> bool:
    """Some write "false" as a text."""
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


def shortened(value: object) -> str:
    """For errors: whatever stands in a file, safe to print."""
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[:_SHOWN_MAX]}..."


def _is_count(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _COUNT_MAX and value == int(value)  # neither of NaN


class ConfigFields:
    """`defaults` stand in for keys that the config leaves out or sets to null."""

    def __init__(
        self, name: str, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self._config = config
        self._defaults = defaults or {}
        self._read: set[str] = set()
        self.latest = ""
        """The key that was asked for last, for errors."""

    def get(self, *keys: str) -> Any:
        """The first of `keys` that is set, else the first that has a default, else None."""
        self._read.update(keys)
        self.latest = next((key for key in keys if self._config.get(key) is not None), keys[0])
        for source in (self._config, self._defaults):
            for key in keys:
                if source.get(key) is not None:
                    return source[key]
        return None

    def told(self, *keys: str) -> bool:
        """Whether the config itself has a value other than 0 for one of `keys`."""
        return any(self._config.get(key) for key in keys)

    def default(self, key: str) -> Any:
        """What stands in where the config leaves `key` out, or None."""
        return self._defaults.get(key)

    def given(self, key: str) -> bool:
        """Whether the config itself names `key`, be it as null."""
        return key in self._config

    def switched_off(self, key: str) -> bool:
        """Whether the config itself sets `key` to null."""
        return key in self._config and self._config[key] is None

    def count(self, *keys: str) -> int:
        """A whole number that must be there. Raises ConfigError."""
        found = self.count_or_none(*keys)
        if found is None:
            raise ConfigError(
                f"{self.name}: its config has no {keys[0]!r}, so its size is not known. "
                "The planner reads config.json of causal language models."
            )
        return found

    def count_or(self, default: int, *keys: str) -> int:
        found = self.count_or_none(*keys)
        return default if found is None else found

    def count_or_none(self, *keys: str) -> int | None:
        found = self.get(*keys)
        if found is None:
            return None
        if (
            isinstance(found, list) and found and all(each == found[0] for each in found)
        ):  # Hunyuan: one per layer
            found = found[0]
        if not _is_count(found):
            raise ConfigError(
                f"{self.name}: {keys[0]} is {shortened(found)} in its config; it must be a whole number, "
                f"of at most {_COUNT_MAX:,}"
            )
        return int(found)

    def flag(self, default: bool, *keys: str) -> bool:
        found = self.get(*keys)
        return default if found is None else as_flag(found)

    def words(self, *keys: str) -> tuple[str, ...]:
        """A list of texts, such as the layers' types; empty if it is not there."""
        found = self.get(*keys)
        return tuple(str(each) for each in found) if isinstance(found, list | tuple) else ()

    def section(self, key: str) -> ConfigFields:
        """A mapping within the config, empty if it is not there."""
        found = self.get(key)
        return ConfigFields(f"{self.name} ({key})", found if isinstance(found, Mapping) else {})

    def unread_sizes(self) -> tuple[str, ...]:
        """Set keys that nobody asked for and that sound as if they changed the model's size."""
        return tuple(
            ascii(key)[1:-1]
            for key, value in self._config.items()
            if key not in self._read
            and value not in (None, False, 0, [], {}, "")
            and _SIZE_WORDS.search(key)
            and not _NO_SIZE.search(key)
        )
