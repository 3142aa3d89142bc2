"""What a batch's tokens cost, by the prices of a deployment file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inferry.core.config_file import load_file
from inferry.core.errors import ConfigError
from inferry.gateway.usage import Usage
from inferry.ledger.prices import Rates, rates


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by the names that clients send, aliases among them."""

    currency: str = "USD"
    source: str = ""
    """Where they are from, or why there are none; for people."""
    by_model: Mapping[str, Rates] = field(default_factory=dict)

    def cost_nano(self, model: str, usage: Usage) -> int | None:
        """Billionths of `currency`; None: the model has no price, or the answer told no tokens."""
        price = self.by_model.get(model)
        if price is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
            return None
        return price.cost_nano(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)


def asked_prices(file: Path, environ: Mapping[str, str]) -> Prices:
    """The prices in the file that --prices names. Raises ConfigError if it can't be read: they are wanted."""
    if not file.exists():
        raise ConfigError(f"--prices: {file} does not exist. Name the deployment file that has the prices.")
    try:
        return _read(file, environ)
    except ConfigError as error:
        raise ConfigError(f"--prices: {error.message}") from error


def prices_of(file: Path | None, environ: Mapping[str, str]) -> Prices:
    """The prices of the Inferry that is asked. A file that can't be read gives none: a batch needs none to run."""
    if file is None:
        return Prices(source="name a deployment file with --prices")
    try:
        return _read(file, environ)
    except ConfigError as error:
        return Prices(source=f"{file} can't be read here: {error.message.splitlines()[0]}")


def _read(file: Path, environ: Mapping[str, str]) -> Prices:
    config = load_file(file, environ).config
    by_model: dict[str, Rates] = {}
    for name, deployment in config.deployments.items():
        if "price" in deployment.model_fields_set:  # left out is not free: nobody has said
            by_model |= dict.fromkeys([name, *deployment.aliases], rates(deployment.price))
    return Prices(
        config.ledger.currency, str(file) if by_model else f"there is no 'price' in {file}", by_model
    )
