"""Proxies in front of the gateways: what is rendered is what was reviewed, and each proxy takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import yaml

from inferry.cli.rendered_files import write_folder
from inferry.core.errors import ConfigError
from inferry.render.envoy import render_envoy
from inferry.render.haproxy import render_haproxy
from inferry.render.kong import render_kong
from inferry.render.nginx import render_nginx
from inferry.render.shipment import Files, ProxyWishes, Shipment
from inferry.render.traefik import render_traefik
from tests.ship.golden import check_golden
from tests.ship.shipments import ENVIRON, everything_shipment, shipment_of, small_shipment, vllm_shipment
from tests.ship.tools import passes, run, tool

Render = Callable[[Shipment], Files]
RENDER: dict[str, Render] = {
    "nginx": render_nginx,
    "haproxy": render_haproxy,
    "envoy": render_envoy,
    "traefik": render_traefik,
    "kong": render_kong,
}
UPSTREAMS = ("127.0.0.1:18001", "[::1]:18002")


@pytest.mark.parametrize("name", RENDER)
def test_what_was_reviewed_is_what_is_rendered(name: str) -> None:
    """Twice the same text, that of the golden files; no secret in it."""
    files = RENDER[name](vllm_shipment())
    assert files == RENDER[name](vllm_shipment())
    check_golden(name, files)
    every = "".join(RENDER[name](everything_shipment()).values())
    assert not [value for value in ENVIRON.values() if value in every]


@pytest.mark.parametrize("name", RENDER)
def test_bounds_are_those_of_the_gateway(name: str) -> None:
    """What the gateway would still answer, no proxy may cut: silence before the first byte, and long bodies."""
    text = "gateway: {first_byte_timeout_s: 1000, body_max_bytes: 12345}\ndeployments: {chat: {engine: simulated}}\n"
    every = "".join(RENDER[name](shipment_of(text)).values())
    assert "1010" in every
    if name != "traefik":  # its way to count bodies would hold answers back
        assert "12345" in every


@pytest.mark.parametrize("name", RENDER)
def test_addresses_are_the_operators(name: str) -> None:
    """Those of --upstream, IPv6 among them; without, one for each gateway in the target's own network."""
    given = "".join(RENDER[name](small_shipment(upstreams=UPSTREAMS)).values())
    assert "18001" in given
    assert "18002" in given
    assert "inferry-gateway-0" not in given
    assert "inferry-gateway-1" in "".join(RENDER[name](vllm_shipment()).values())


@pytest.mark.parametrize(
    ("wishes", "complaint"),
    [
        ({"certificates": "/etc/x; } evil"}, "--certificates /etc/x; } evil: write a path"),
        ({"certificates": "relative"}, "--certificates relative: write a path"),
        ({"http_port": 443}, "--https-port 443: that is --http-port, too"),
    ],
)
def test_wishes_that_break_a_configuration_are_refused(wishes: dict[str, object], complaint: str) -> None:
    """Nothing that a shell or a proxy would read as more than a path or a port gets into a file."""
    with pytest.raises(ConfigError) as caught:
        small_shipment(proxy=ProxyWishes(**wishes))  # type: ignore[arg-type]
    assert complaint in caught.value.message


# --- the proxies' own checks ----------------------------------------------------------------------------


def certified(folder: Path) -> str:
    """A folder with certificates as the proxies want them, from an authority whose certificate is `ca.pem` there."""
    authority = trustme.CA()
    issued = authority.issue_cert("llm.example.com", "127.0.0.1")
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    (folder / "fullchain.pem").write_bytes(chain)
    (folder / "privkey.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "both.pem").write_bytes(chain + issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return str(folder)


def rendered(name: str, folder: Path, make: Callable[..., Shipment] = vllm_shipment) -> Path:
    """Its files in a folder, with certificates that are there and addresses that nobody has to look up."""
    shipment = make(upstreams=UPSTREAMS, proxy=ProxyWishes(certificates=certified(folder)))
    out = folder / name
    write_folder(out, RENDER[name](shipment))
    return out


def nginx_argv(folder: Path) -> tuple[str, ...]:
    pid = folder.parent / "nginx.pid"
    return (tool("nginx"), "-p", str(folder), "-c", "nginx.conf", "-g", f"pid {pid};")


def check_argv(name: str, folder: Path) -> tuple[str, ...]:
    match name:
        case "nginx":
            return (*nginx_argv(folder), "-t")
        case "haproxy":
            return (tool("haproxy"), "-C", str(folder), "-c", "-f", "haproxy.cfg")
        case _:
            return (tool("envoy"), "--mode", "validate", "-c", str(folder / "envoy.yaml"))


MAIN = {"nginx": "conf.d/inferry.conf", "haproxy": "haproxy.cfg", "envoy": "envoy.yaml"}
TYPOS = {
    "nginx": ("proxy_buffering off;", "proxy_bufering off;"),
    "haproxy": ("option http-no-delay", "option http-nodelay"),
    "envoy": ("lb_policy: LEAST_REQUEST", "lb_policy: LEAST_REQUESTS"),
}


@pytest.mark.parametrize("make", [vllm_shipment, everything_shipment])
@pytest.mark.parametrize("name", MAIN)
def test_each_proxy_takes_its_configuration(name: str, make: Callable[..., Shipment], tmp_path: Path) -> None:
    """With and without TLS at the gateways; and one wrong word is refused, so the check can fail."""
    folder = rendered(name, tmp_path, make)
    passes(*check_argv(name, folder))
    right, wrong = TYPOS[name]
    path = folder / MAIN[name]
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    assert run(*check_argv(name, folder)).returncode != 0


def test_nginx_has_no_known_weakness(tmp_path: Path) -> None:
    """gixy finds nothing but that answers are not buffered, which is what streams need; a weakness would be found."""
    folder = rendered("nginx", tmp_path)
    command = (tool("gixy-next"), "--format", "json", str(folder / "nginx.conf"))
    assert {each["plugin"] for each in json.loads(run(*command).stdout)} <= {"proxy_buffering_off"}
    path = folder / "conf.d/inferry.conf"
    path.write_text(path.read_text().replace("$request_uri;", "$uri;"))
    assert "http_splitting" in {each["plugin"] for each in json.loads(run(*command).stdout)}


# --- where no program is at hand: by structure ----------------------------------------------------------


def test_traefik_by_structure() -> None:
    """Routers lead to services and middlewares that are defined, and each file has its kind of keys only."""
    files = render_traefik(vllm_shipment())
    static = yaml.safe_load(files["traefik.yml"])
    dynamic = yaml.safe_load(files["dynamic/inferry.yml"])
    assert set(static) <= {"entryPoints", "providers", "accessLog", "global"}
    assert set(dynamic) <= {"http", "tls"}
    http = dynamic["http"]
    assert set(http) == {"routers", "middlewares", "services", "serversTransports"}
    for router in http["routers"].values():
        assert set(router["entryPoints"]) <= set(static["entryPoints"])
        assert router["service"] in http["services"]
        assert set(router["middlewares"]) == set(http["middlewares"])
    [service] = http["services"].values()
    assert service["loadBalancer"]["serversTransport"] in http["serversTransports"]
    assert "buffering" not in {kind for each in http["middlewares"].values() for kind in each}


def test_kong_by_structure() -> None:
    """The service's host is an upstream with a target for each gateway; no key of a certificate is in the file."""
    data = yaml.safe_load(render_kong(vllm_shipment())["kong.yml"])
    assert set(data) == {"_format_version", "_transform", "upstreams", "services", "certificates"}
    [upstream], [service] = data["upstreams"], data["services"]
    assert service["host"] == upstream["name"]
    assert [each["target"] for each in upstream["targets"]] == [
        "inferry-gateway-0:8000",
        "inferry-gateway-1:8000",
    ]
    assert {each["name"]: each.get("response_buffering") for each in service["routes"]}["api"] is False
    assert all(each["key"].startswith("{vault://") for each in data["certificates"])
