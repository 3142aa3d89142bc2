"""Users' own devices and models: what they say comes before the catalog, and too little is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.facts_settings import Facts
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.facts.engine_support import NotSupported, supports
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
    assert mine.usable_bytes == pytest.approx(48 * GIB * 23.52 / 24)
    assert mine.bandwidth_bytes_per_s == known.bandwidth_bytes_per_s
    assert mine.compute_capability == "8.9"
    assert mine.price is not None
    assert (mine.price.usd_per_hour, mine.price.kind) == (0.5, "own")
    assert mine.source.startswith("facts of the deployment file, over rtx4090")
    assert find_device("rtx4090").memory_bytes == 24 * GIB


def test_saying_the_same_nameplate_again_changes_nothing() -> None:
    """An L40S keeps ECC's part: 44.4 of 48 GiB, and of 96 as much again."""
    known = find_device("l40s")
    same = device({"like": "l40s", "nameplate_memory": "48GiB"})
    assert (same.usable_bytes, same.driver_total_bytes) == (known.usable_bytes, known.driver_total_bytes)
    twice = device({"like": "l40s", "nameplate_memory": "96GiB"})
    assert twice.usable_bytes == pytest.approx(2 * known.usable_bytes)
    assert twice.driver_total_bytes is None


@pytest.mark.parametrize("told", [{"like": "h100-80g"}, {"like": "h100-80g", "nameplate_memory": "100GiB"}])
def test_no_card_gives_more_than_it_has(told: dict[str, str]) -> None:
    """More usable memory than the card that it is like has is an error, told with both figures."""
    with pytest.raises((ConfigError, ValueError), match="reports more than there is"):
        device({**told, "usable_memory": "200GiB"})
    assert device({"like": "h100-80g", "nameplate_memory": "200GiB", "usable_memory": "199GiB"}).usable_bytes


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


def test_an_nvidia_card_must_say_its_compute_capability() -> None:
    """Which kernels engines have for it depends on that: without it nothing is promised to run on it."""
    told: dict[str, Any] = {
        "vendor": "nvidia",
        "nameplate_memory": "96GiB",
        "bandwidth_gb_per_second": 1200,
        "tflops": {"bf16": 400},
    }
    with pytest.raises(ConfigError, match=r"facts\.devices\.mine: 'compute_capability' must be said"):
        device(told)
    assert device({**told, "compute_capability": "9.0"}).compute_capability == "9.0"
    assert device({"like": "h100-80g"}).compute_capability == "9.0"
    answer = supports("vllm", replace(find_device("a100-80g"), compute_capability=None), "nvfp4", "bf16")
    assert isinstance(answer, NotSupported)
    assert "compute capability of a100-80g is not known" in answer.why


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
