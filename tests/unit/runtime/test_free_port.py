"""Ports for replicas."""

from __future__ import annotations

import socket

from inferry.runtime.free_port import PortPicker


def test_no_port_is_given_out_twice_soon() -> None:
    """A hundred replicas that start at the same time get a hundred ports, each of them free."""
    picker = PortPicker()
    ports = [picker.pick() for _ in range(100)]
    assert len(set(ports)) == 100
    with socket.socket() as one:
        one.bind(("127.0.0.1", ports[-1]))
