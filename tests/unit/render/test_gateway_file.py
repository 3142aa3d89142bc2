"""The gateway's own file in a container: right for the gateway, without secrets, engines where they are."""

from __future__ import annotations

from pathlib import Path

import yaml

from inferry.core.config_file import parse_text
from inferry.render.gateway_file import gateway_file
from inferry.render.shipment import CONFIG_PATH, HOME_PATH
from tests.ship.shipments import ENVIRON, everything_shipment, shipment_of, small_shipment


def test_it_listens_for_all_and_asks_for_keys() -> None:
    """On 127.0.0.1 nobody could reach it in a container; and whoever can reach it needs a key."""
    tree = yaml.safe_load(gateway_file(small_shipment()))
    assert tree["gateway"] == {"listen": "0.0.0.0:8000", "auth": "keys"}
    assert tree["deployments"]["chat"]["replicas"] == 2


def test_who_wants_no_keys_gets_none() -> None:
    """The operator's own word counts."""
    text = "gateway: {allow_unauthenticated: true}\ndeployments: {chat: {engine: simulated}}\n"
    assert yaml.safe_load(gateway_file(shipment_of(text)))["gateway"] == {
        "allow_unauthenticated": True,
        "listen": "0.0.0.0:8000",
    }


def test_paths_are_those_inside() -> None:
    """What is mounted, and what the file says, are the same paths; the rest of the machine is nobody's business."""
    shipment = everything_shipment()
    tree = yaml.safe_load(gateway_file(shipment))
    assert tree["gateway"]["tls"] == {
        "certificate": "/etc/inferry/files/0-server.pem",
        "key": "/etc/inferry/files/1-server.key",
    }
    assert [(str(each.outside), each.inside) for each in shipment.mounts] == [
        ("/srv/inferry/certs/server.pem", "/etc/inferry/files/0-server.pem"),
        ("/srv/inferry/certs/server.key", "/etc/inferry/files/1-server.key"),
    ]
    assert tree["admin"]["listen"] == "0.0.0.0:9001"


def test_no_secret_is_written() -> None:
    """References stay references."""
    text = gateway_file(
        everything_shipment(), {"chat": ["http://chat-0:8000"]}, api_keys={"chat": "CHAT_KEY"}
    )
    assert "${LEDGER_URL}" in text
    assert "${OUTSIDE_KEY}" in text
    assert "api_key: ${CHAT_KEY}" in text
    assert not [value for value in ENVIRON.values() if value in text]


def test_a_gateway_with_its_own_engines_takes_the_file() -> None:
    """What is rendered is itself a right deployment file."""
    loaded = parse_text(gateway_file(small_shipment()), Path(CONFIG_PATH), {"HOME": HOME_PATH})
    assert loaded.config.gateway.host == "0.0.0.0"
    assert loaded.config.deployments["chat"].engine == "llamacpp"
