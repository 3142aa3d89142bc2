"""`inferry render`: what is written where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inferry.cli.main import app
from inferry.cli.rendered_files import check_folder, write_folder
from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError
from inferry.render.gateway_file import gateway_file
from tests.ship.shipments import shipment_of


def test_an_unknown_target_is_named() -> None:
    """With the ones that there are."""
    result = CliRunner().invoke(app, ["render", "ngin"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message.startswith("There is no target 'ngin'.")
    assert "all" in result.exception.message


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"name": "Big Name"}, "--name Big Name: write small letters"),
        ({"host": "https://llm.example.com"}, "--host https://llm.example.com: write a host name"),
        (
            {"image": "registry.example.com/inferry"},
            "add its version, as in registry.example.com/inferry:1.2.0",
        ),
        ({"image": "registry.example.com:5000/inferry"}, "add its version"),
        ({"upstreams": ("gateway",)}, "--upstream gateway: write it as HOST:PORT"),
    ],
)
def test_a_wish_that_nobody_can_use_is_refused(wish: dict[str, str], complaint: str) -> None:
    """Before anything is written; the option, the value and the way out are named."""
    with pytest.raises(ConfigError) as caught:
        shipment_of("deployments: {chat: {engine: simulated}}\n", **wish)
    assert complaint in caught.value.message


def test_a_path_by_reference_is_refused() -> None:
    """It would be another path inside, and nobody could mount it."""
    text = "gateway: {tls: {certificate: '${CERT:-/a/b.pem}', key: /a/b.key}}\ndeployments: {chat: {engine: simulated}}\n"
    with pytest.raises(
        ConfigError, match=r"gateway.tls.certificate: '\$\{CERT:-/a/b.pem\}' is a path by reference"
    ):
        shipment_of(text)


def test_the_gateways_file_has_the_keys_of_filters_as_they_are_written() -> None:
    """`on` is a key, and not YAML 1.1's true: what is rendered is a file that the gateway in the container takes."""
    rule = "{name: a, on: input, terms: [x]}"
    shipment = shipment_of(
        f"gateway: {{allow_unauthenticated: true, filters: [{rule}]}}\ndeployments: {{chat: {{engine: simulated}}}}\n"
    )
    text = gateway_file(shipment)
    assert parse_text(text, Path("inferry.yaml"), {}).config.gateway.filters[0].on == "input"


def test_only_ours_is_overwritten(tmp_path: Path) -> None:
    """What somebody else put there stays, and is named."""
    write_folder(tmp_path, {"a.yaml": "1\n", "sub/b.yaml": "2\n"})
    write_folder(tmp_path, {"a.yaml": "3\n"})
    assert (tmp_path / "a.yaml").read_text() == "3\n"
    assert not (tmp_path / "sub/b.yaml").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes.txt is not ours"):
        write_folder(tmp_path, {"a.yaml": "4\n", "notes.txt": "x"})
    assert (tmp_path / "a.yaml").read_text() == "3\n"


def test_check_tells_what_is_stale(tmp_path: Path) -> None:
    """As CI wants it: nothing is written, each difference is named."""
    write_folder(tmp_path, {"a": "1\n", "b": "2\n"})
    said: list[str] = []
    assert check_folder(tmp_path, {"a": "1\n", "b": "2\n"}, said.append) == 0
    (tmp_path / "a").write_text("changed")
    assert check_folder(tmp_path, {"a": "1\n", "c": "3\n"}, said.append) == 3
    assert [line.rpartition("/")[2] for line in said] == [
        "a: would be changed",
        "b: would be removed",
        "c: would be changed",
    ]


def test_a_list_of_files_that_was_tampered_with_reaches_nothing_outside(tmp_path: Path) -> None:
    """The list is a file like others: what it says must not remove somebody's files."""
    victim = tmp_path / "victim"
    victim.write_text("dear")
    folder = tmp_path / "out"
    write_folder(folder, {"a": "1\n"})
    (folder / ".inferry-rendered").write_text(f"a\n../victim\n{victim}\n")
    write_folder(folder, {"b": "1\n"})
    assert victim.read_text() == "dear"
