"""The catalog of devices: names, sources, and rates that can't be."""

from __future__ import annotations

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.facts.device_catalog import device_sources, find_device, known_devices


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a100-80g", "a100-80g"),
        ("A100-80GB", "a100-80g"),
        ("h100_sxm", "h100-80g"),
        ("H100 SXM 80GB", "h100-80g"),
        ("b200_sxm", "b200"),
        ("RTX PRO 6000 Blackwell SE", "rtx-pro-6000-server"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-max-q"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("NVIDIA GH200 120GB", "gh200-96g"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144g"),
        ("Tesla V100S-PCIE-32GB", "v100s-32g"),
        ("4090", "rtx4090"),
        ("RTX 5090 32GB (31.4 GiB usable)", "rtx5090"),
        ("Mac Studio (M3 Ultra 512GB)", "m3-ultra-512g"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80g"),
        ("NVIDIA H100 80GB HBM3", "h100-80g"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla V100-SXM2-32GB", "v100-32g"),
        ("M4 Max 64GB", "m4-max-64g"),
    ],
)
def test_people_drivers_and_benchmarks_may_each_use_their_name(said: str, meant: str) -> None:
    """One device has many names: ours, the data's, NVML's."""
    assert find_device(said).name == meant


@pytest.mark.parametrize("said", ["NVIDIA GeForce RTX 4090 Laptop GPU", "H100 96GB", "", "gpu"])
def test_a_name_that_is_near_is_no_match(said: str) -> None:
    """A laptop's chip, or another size of memory, is another device: an error, not a guess."""
    with pytest.raises(ConfigError, match="is no device of the catalog"):
        find_device(said)


def test_a_typing_error_gets_a_suggestion() -> None:
    """The error names the value, what may have been meant, and where the list is."""
    with pytest.raises(ConfigError, match=r"'rtx4909'.*Did you mean 'rtx4090'\?.*inferry hardware --catalog"):
        find_device("rtx4909")


def test_no_two_devices_answer_to_one_name() -> None:
    """Each name and alias finds its own device."""
    for device in known_devices():
        for name in (device.name, *device.aliases):
            assert find_device(name).name == device.name, name


def test_each_device_says_where_its_facts_are_from() -> None:
    """Rates, usable memory and prices carry a source, and each source an address and a date."""
    for device in known_devices():
        assert "usable memory:" in device.source, device.name
        assert (device.vendor == "nvidia") == (device.compute_capability is not None), device.name
        assert device.price is None or (device.price.source and device.price.as_of), device.name
    sources = device_sources().values()
    assert all(source.address and source.date for source in sources)
    named = {source.what for source in sources if source.price_kind is not None}
    assert {device.price.source for device in known_devices() if device.price} <= named


def test_a_market_place_is_told_from_a_price_list() -> None:
    """The lowest of Akash's hosts is no list price; of the usual cards a list price is known."""
    names = ("h100", "a100", "l40s", "l4", "t4", "5090", "4090", "3090", "pro 6000")
    kinds = {name: price.kind for name in names if (price := find_device(name).price)}
    assert kinds == {**dict.fromkeys(names, "on demand"), "pro 6000": "market place"}


def test_a_mac_lends_its_gpu_less_of_a_small_memory() -> None:
    """Older chips two thirds below 36 GB, newer ones 0.74; three quarters from there."""
    shares = {
        name: device.usable_bytes / device.memory_bytes
        for name in ("m1-16g", "m4-16g", "m3-max-36g", "m4-max-64g")
        if (device := find_device(name))
    }
    assert shares == pytest.approx(
        {"m1-16g": 2 / 3, "m4-16g": 0.74, "m3-max-36g": 0.75, "m4-max-64g": 0.75}, rel=1e-3
    )


def test_cards_of_one_name_differ_by_edition() -> None:
    """The Server Edition's memory is slower than the Workstation's; a V100S's is faster than a V100's."""
    said = {
        "rtx pro 6000 se": 1597,
        "rtx pro 6000 96gb": 1792,
        "v100s": 1134,
        "v100 32gb": 900,
        "m5 max 36gb": 460,
    }
    for name, gb_per_s in said.items():
        assert find_device(name).bandwidth_bytes_per_s == gb_per_s * 1e9, name


def test_no_device_gives_more_than_its_nameplate() -> None:
    """Drivers report less memory than is printed on the card; a narrower type is never slower on the same chip."""
    for device in known_devices():
        assert 0.66 * device.memory_bytes < device.usable_bytes <= device.memory_bytes, device.name
        rates = device.flops_per_s
        if "fp8" in rates:
            assert rates["fp8"] >= rates["fp16"], device.name
        if "fp4" in rates:
            assert rates["fp4"] >= 1.9 * rates["fp8"], device.name


def test_what_nvidia_smi_prints_lies_between_usable_and_nameplate() -> None:
    """SGLang reckons with that total: an L4's is 23034 MiB, of which engines get 22.03 GiB, and 24 GiB is printed on it."""
    assert find_device("l4").driver_total_bytes == 23_034 * 2**20
    for device in known_devices():
        if device.driver_total_bytes is not None:
            assert device.usable_bytes < device.driver_total_bytes <= device.memory_bytes, device.name


def test_tensor_rates_are_dense() -> None:
    """The figures that data sheets print in large type are with sparsity; ours are half of them."""
    assert find_device("h100").flops_per_s["fp16"] == pytest.approx(989e12)
    assert find_device("rtx4090").flops_per_s["fp16"] == pytest.approx(165.2e12)
    assert find_device("b200").flops_per_s["fp4"] == pytest.approx(9000e12)


def test_bridges_join_so_many_and_no_more() -> None:
    """Two H100 NVL talk by NVLink, four by PCIe; where a switch joins a host's devices, all of them have their link."""
    pairs, host = find_device("h100-nvl"), find_device("h100-80g")
    assert pairs.link_rate(2) == 300e9
    assert pairs.link_rate(4) == 64e9
    assert host.link_rate(8) == host.link_bytes_per_s
