"""Users' own devices and models: what they say comes before the catalog, and too little is told."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.facts_settings import Facts
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.own_facts import own_facts

GIB = 2**30
LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
}


def device(told: dict[str, Any], name: str = "mine") -> Device:
    facts = Facts.model_validate({"devices": {name: told}})
    return own_facts(facts, {}).find_device(name)


def test_a_device_like_another_changes_what_is_told() -> None:
    """A 4090 with 48 GiB: memory and price are told, the rest is the 4090's."""
    mine = device({"like": "rtx4090", "nameplate_memory": "48GiB", "usd_per_hour": 0.5})
    known = find_device("rtx4090")
    assert mine.memory_bytes == 48 * GIB
    assert mine.usable_bytes == pytest.approx(48 * GIB * 0.97)
    assert mine.bandwidth_bytes_per_s == known.bandwidth_bytes_per_s
    assert mine.compute_capability == "8.9"
    assert mine.price is not None
    assert mine.price.usd_per_hour == 0.5
    assert mine.source.startswith("facts of the deployment file, over rtx4090")
    assert find_device("rtx4090").memory_bytes == 24 * GIB


def test_a_name_of_the_catalog_takes_its_place_under_all_its_names() -> None:
    """One's own price for an H100 counts however that is called."""
    facts = own_facts(
        Facts.model_validate({"devices": {"H100 SXM": {"usd_per_hour": 2.1, "price_as_of": "2026-11-01"}}}),
        {},
    )
    for name in ("h100-80g", "h100_sxm", "NVIDIA H100 80GB HBM3"):
        found = facts.find_device(name)
        assert found.price is not None
        assert (found.price.usd_per_hour, found.price.as_of) == (2.1, "2026-11-01")
    assert [each.name for each in facts.known_devices()].count("h100-80g") == 1


def test_a_device_of_its_own_needs_memory_bandwidth_and_rates() -> None:
    """What can't be planned without is named; with it, the device is there."""
    with pytest.raises(
        ConfigError, match=r"facts\.devices\.mine: 'bandwidth_gb_per_second', 'tflops' must be said"
    ):
        device({"nameplate_memory": "96GiB"})
    mine = device(
        {
            "nameplate_memory": "96GiB",
            "bandwidth_gb_per_second": 1200,
            "tflops": {"bf16": 400},
            "vendor": "intel",
        }
    )
    assert mine.flops_per_s == {"bf16": 400e12}
    assert mine.bandwidth_bytes_per_s == 1.2e12


def test_like_nothing_that_is_known() -> None:
    """The error names the key and suggests."""
    with pytest.raises(ConfigError, match=r"facts\.devices\.mine\.like: .*Did you mean 'rtx4090'"):
        device({"like": "rtx4909"})


def test_a_model_by_its_keys_and_by_its_file() -> None:
    """Keys of `fields` come before those of the file; what is wrong with them is told with the model's name."""
    told = {
        "tiny": {"fields": LLAMA},
        "other": {"config": "/x/config.json", "fields": {"num_hidden_layers": 4}},
    }
    facts = own_facts(Facts.model_validate({"models": told}), {"other": LLAMA})
    tiny, other = facts.find_model("tiny"), facts.find_model("other")
    assert tiny is not None
    assert other is not None
    assert (tiny.layers, other.layers) == (16, 4)
    assert facts.find_model("unknown") is None
    with pytest.raises(ConfigError, match=r"facts\.models\.bad: .*'hidden_size'"):
        own_facts(Facts.model_validate({"models": {"bad": {"fields": {"num_hidden_layers": 3}}}}), {})
