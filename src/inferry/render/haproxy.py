"""HAProxy in front of the gateways. Keywords: docs.haproxy.org, configuration manual 2.6 and later."""

from __future__ import annotations

from inferry.render.proxying import (
    CONNECTIONS_MAX,
    NO_GATEWAY,
    NOT_HERE,
    REQUESTS_PER_S,
    TOO_LARGE,
    TOO_MANY,
    answer_timeout_s,
    body_max_bytes,
    connect_timeout_s,
    gateway_addresses,
    upstream_tls,
)
from inferry.render.shipment import Files, Shipment

_WINDOW_S = 10
"""Of the count of requests by address: a burst of some seconds is no flood."""


def render_haproxy(shipment: Shipment) -> Files:
    """`haproxy.cfg`, and the page that it gives where no gateway answers."""
    return {"haproxy.cfg": _text(shipment), "errors/503.http": _page(503, "Service Unavailable", NO_GATEWAY)}


def _page(status: int, reason: str, body: str) -> str:
    return (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )


def _text(shipment: Shipment) -> str:
    tls = (
        " ssl verify required ca-file @system-ca sni str(" + shipment.host + ")"
        if upstream_tls(shipment)
        else ""
    )
    servers = "\n".join(f"    server {each.name} {each} check{tls}" for each in gateway_addresses(shipment))
    timeout_s = answer_timeout_s(shipment)
    port = shipment.proxy.https_port
    location = f"https://{shipment.host}{'' if port == 443 else f':{port}'}"
    return f"""\
# HAProxy for Inferry's gateways, made by 'inferry render haproxy'. Run it in its folder: haproxy -f haproxy.cfg

global
    log stdout format raw local0 info
    # How many connections it takes follows from its limit of open files (ulimit -n): each stream needs two.
    # Running streams may end before an old process goes, at a reload.
    hard-stop-after {timeout_s}s
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets

defaults
    mode http
    log global
    option dontlognull
    # Nothing of the query or of headers: they may hold keys.
    log-format "%ci [%tr] %HM %HP %ST %B %TR/%Tw/%Tc/%Tr/%Ta %b/%s %tsc"
    # Without it, HAProxy holds small chunks back to fill packets: up to 200 ms of delay for each token of a stream.
    option http-no-delay
    timeout http-request 15s
    timeout http-keep-alive 75s
    timeout queue 30s
    timeout connect {connect_timeout_s(shipment)}s
    # Longer than the gateway's own, which knows why an answer does not come, and says it. The client waits as long.
    timeout client {timeout_s}s
    timeout server {timeout_s}s
    # Another gateway only where this one has seen nothing of the request: an answer must not be paid twice.
    retries 2
    retry-on conn-failure
    option redispatch 1
    errorfile 503 errors/503.http

resolvers system
    parse-resolv-conf

frontend to_https
    bind :{shipment.proxy.http_port}
    # 308 keeps method and body. A key that came in clear has been seen already: revoke it.
    http-request redirect prefix {location} code 308

frontend clients
    bind :{port} ssl crt {shipment.proxy.certificates}/both.pem alpn h2,http/1.1

    # A wall before keys are looked at; limits of users are the gateway's own.
    stick-table type ipv6 size 100k expire 60s store http_req_rate({_WINDOW_S}s),conn_cur
    http-request track-sc0 src
    acl floods sc_http_req_rate(0) gt {REQUESTS_PER_S * _WINDOW_S}
    acl holds_many sc_conn_cur(0) gt {CONNECTIONS_MAX}
    http-request return status 429 content-type application/json hdr retry-after 1 string '{TOO_MANY}' if floods || holds_many
    # The same bound as the gateway's own gateway.body_max_bytes.
    http-request return status 413 content-type application/json string '{TOO_LARGE}' if {{ req.hdr_val(content-length) gt {body_max_bytes(shipment)} }}
    # Prometheus asks the gateways themselves; from outside nobody does.
    http-request return status 404 content-type application/json string '{NOT_HERE}' if {{ path /metrics }}

    # Believed where gateway.trusted_proxies names this machine. x-request-id and traceparent go through as they are.
    option forwardfor
    http-request set-header x-forwarded-proto https
    http-response set-header strict-transport-security max-age=31536000
    default_backend gateways

backend gateways
    # Requests differ by a thousandfold in length: the gateway with the fewest under way is the least busy one.
    balance leastconn
    option httpchk
    # A gateway that drains, or whose engines are all down, says 503: it gets nothing new, and ends what it has.
    http-check send meth GET uri /health ver HTTP/1.1 hdr host {shipment.host}
    http-check expect status 200
    # Back again after one good answer, with its share growing over 10 s.
    # Names are looked up again, so that a gateway may move, or come later than HAProxy.
    default-server inter 2s fall 2 rise 1 slowstart 10s init-addr last,libc,none resolvers system
{servers}
"""
