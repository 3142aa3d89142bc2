"""systemd units: what is rendered is what was reviewed, and systemd's own tools take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.rendered_files import write_folder
from inferry.render.systemd import PROGRAM, render_systemd
from tests.ship.golden import check_golden
from tests.ship.shipments import ENVIRON, everything_shipment, shipment_of, vllm_shipment
from tests.ship.tools import run, tool

UNITS = ("inferry.service", "inferry-backup.service", "inferry-backup.timer")


def test_what_was_reviewed_is_what_is_rendered() -> None:
    """The golden files, names of secrets among them, and no value of one."""
    check_golden("systemd", render_systemd(vllm_shipment()))
    every = "".join(render_systemd(everything_shipment()).values())
    assert "OUTSIDE_KEY=\n" in every
    assert not [value for value in ENVIRON.values() if value in every]


def test_it_waits_as_long_as_streams_may_take() -> None:
    """gateway.drain_s, and what the slowest engine gets, before anything is killed."""
    text = (
        "gateway: {drain_s: 100}\ndeployments:\n  a: {engine: simulated, stop_grace_s: 40}\n"
        "  b: {engine: simulated}\n"
    )
    assert "\nTimeoutStopSec=150\n" in render_systemd(shipment_of(text))["inferry.service"]


def test_only_low_ports_get_a_capability() -> None:
    """And no other one, ever."""
    low = shipment_of("gateway: {listen: '127.0.0.1:443'}\ndeployments: {a: {engine: simulated}}\n")
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in render_systemd(low)["inferry.service"]
    assert "\nAmbientCapabilities=\n" in render_systemd(vllm_shipment())["inferry.service"]


def test_backups_are_made_once(tmp_path: Path) -> None:
    """With `backup` in the file, Inferry makes them: no timer does it again, and the service may write to the folder."""
    text = "backup: {folder: /srv/kept 100%}\ndeployments: {a: {engine: simulated}}\n"
    files = render_systemd(shipment_of(text))
    assert not {"inferry-backup.service", "inferry-backup.timer"} & set(files)
    assert '\nReadWritePaths="/srv/kept 100%%"\n' in files["inferry.service"]
    assert '\nd "/srv/kept 100%%" 0700 inferry inferry -\n' in files["tmpfiles.d/inferry.conf"]
    write_folder(tmp_path, {"inferry.service": files["inferry.service"].replace(PROGRAM, "/bin/true")})
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(tmp_path / "inferry.service"))
    assert "inferry.service" not in done.stderr
    assert "ReadWritePaths" not in render_systemd(vllm_shipment())["inferry.service"]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_each_unit_and_would_not_take_everything(unit: str, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say; a misspelt directive is told."""
    write_folder(tmp_path, render_systemd(everything_shipment()))
    # The program is not on this machine, and verify looks for it.
    for each in UNITS:
        path = tmp_path / each
        path.write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    verify = (tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit))
    done = run(*verify)
    about_it = [line for line in done.stderr.splitlines() if unit in line]
    assert about_it == []
    assert done.returncode == 0, done.stderr
    path = tmp_path / unit
    path.write_text(path.read_text().replace("Description=", "Descripton=", 1))
    assert "Descripton" in run(*verify).stderr
