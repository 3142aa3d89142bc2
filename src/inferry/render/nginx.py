"""nginx in front of the gateways: TLS, limits by address, streams as they come.

Directives and their defaults: nginx.org/en/docs (http_proxy, http_upstream, http_limit_req, http_ssl modules).
"""

from __future__ import annotations

from inferry.render.proxying import (
    BURST,
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

_MAIN = """\
# nginx for Inferry's gateways, made by 'inferry render nginx'.
# On a machine that has an nginx already, only conf.d/inferry.conf is needed.
worker_processes auto;
# Each stream holds two: the client's connection and the gateway's.
worker_rlimit_nofile 65536;
error_log stderr warn;

events {
    worker_connections 16384;
}

http {
    # Nothing of the query or of headers: they may hold keys.
    log_format inferry '$remote_addr [$time_iso8601] "$request_method $uri" $status $bytes_sent $request_time'
                       ' $upstream_addr $upstream_response_time';
    access_log /dev/stdout inferry;
    include conf.d/inferry.conf;
}
"""


def render_nginx(shipment: Shipment) -> Files:
    """`nginx.conf`, and the part of it that is Inferry's."""
    return {"nginx.conf": _MAIN, "conf.d/inferry.conf": _ours(shipment)}


def _ours(shipment: Shipment) -> str:
    tls = upstream_tls(shipment)
    servers = "\n".join(
        f"    server {address} max_fails=2 fail_timeout=5s;" for address in gateway_addresses(shipment)
    )
    timeout_s = answer_timeout_s(shipment)
    port = shipment.proxy.https_port
    shown_port = "" if port == 443 else f":{port}"
    return f"""\
# Made by 'inferry render nginx'; belongs into the http block.

upstream {shipment.name}_gateways {{
    # Shared by nginx's processes, so that all count the same connections.
    zone {shipment.name}_gateways 64k;
    # Requests differ by a thousandfold in length: the gateway with the fewest under way is the least busy one.
    least_conn;
{servers}
    # Kept open, so that a request waits for no handshake.
    keepalive 64;
    # Closed here before the gateway does (75 s), so that no request meets a connection that is just going.
    keepalive_timeout 60s;
}}

# A wall before keys are looked at; limits of users are the gateway's own.
limit_req_zone $binary_remote_addr zone={shipment.name}_requests:10m rate={REQUESTS_PER_S}r/s;
limit_conn_zone $binary_remote_addr zone={shipment.name}_connections:10m;

server {{
    listen {shipment.proxy.http_port} default_server;
    server_name {shipment.host};
    server_tokens off;
    location / {{
        # 308 keeps method and body. A key that came in clear has been seen already: revoke it.
        return 308 https://{shipment.host}{shown_port}$request_uri;
    }}
}}

server {{
    listen {port} ssl http2 default_server;
    server_name {shipment.host};
    server_tokens off;

    ssl_certificate {shipment.proxy.certificates}/fullchain.pem;
    ssl_certificate_key {shipment.proxy.certificates}/privkey.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:{shipment.name}_tls:10m;
    ssl_session_timeout 1d;
    # Keys of tickets live as long as nginx: without them, old traffic stays secret.
    ssl_session_tickets off;
    add_header Strict-Transport-Security "max-age=31536000" always;

    # The same bound as the gateway's own gateway.body_max_bytes.
    client_max_body_size {body_max_bytes(shipment)};
    # Most bodies go on in one piece.
    client_body_buffer_size 1m;
    client_header_timeout 15s;
    client_body_timeout 60s;
    keepalive_timeout 75s;

    limit_conn {shipment.name}_connections {CONNECTIONS_MAX};
    limit_conn_status 429;
    limit_req_status 429;

    location / {{
        limit_req zone={shipment.name}_requests burst={BURST} nodelay;

        proxy_pass {"https" if tls else "http"}://{shipment.name}_gateways;
{_upstream_tls(shipment) if tls else ""}        # Keep-alive to the gateways, and chunks as they come.
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_cache off;
        # Requests go on as they come: no prompt ever waits in a file. Another gateway can still have one that was
        # not begun.
        proxy_request_buffering off;

        proxy_set_header Host $host;
        # Believed where gateway.trusted_proxies names this machine.
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        # x-request-id and traceparent go through as they are.

        proxy_connect_timeout {connect_timeout_s(shipment)}s;
        # Longer than the gateway's own, which knows why an answer does not come, and says it.
        proxy_read_timeout {timeout_s}s;
        proxy_send_timeout 60s;

        # Another gateway only where this one has seen nothing of the request: an answer must not be paid twice.
        # (Without 'non_idempotent', nginx goes on only if nothing was sent; Inferry itself retries and resumes.)
        proxy_next_upstream error timeout;
        proxy_next_upstream_tries 2;
        proxy_next_upstream_timeout 10s;

        # The gateway's own errors go through; these are nginx's.
        error_page 413 = @too_large;
        error_page 429 = @too_many;
        error_page 502 504 = @no_gateway;
    }}

    # For load balancers further out; no limit, no key, no secret.
    location = /health {{
        proxy_pass {"https" if tls else "http"}://{shipment.name}_gateways;
{_upstream_tls(shipment) if tls else ""}        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_connect_timeout 2s;
        proxy_read_timeout 5s;
    }}

    # Prometheus asks the gateways themselves; from outside nobody does.
    location = /metrics {{
        default_type application/json;
        return 404 '{NOT_HERE}';
    }}

    location @too_large {{
        default_type application/json;
        return 413 '{TOO_LARGE}';
    }}
    location @too_many {{
        default_type application/json;
        add_header Retry-After 1 always;
        add_header Strict-Transport-Security "max-age=31536000" always;
        return 429 '{TOO_MANY}';
    }}
    location @no_gateway {{
        default_type application/json;
        add_header Retry-After 2 always;
        add_header Strict-Transport-Security "max-age=31536000" always;
        return 503 '{NO_GATEWAY}';
    }}
}}
"""


def _upstream_tls(shipment: Shipment) -> str:
    return f"""\
        # The gateways have TLS of their own: their certificate must be for this name.
        proxy_ssl_server_name on;
        proxy_ssl_name {shipment.host};
        proxy_ssl_verify on;
        proxy_ssl_verify_depth 3;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
"""
