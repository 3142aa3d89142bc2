"""Envoy in front of the gateways, as a static configuration. Messages: envoyproxy.io/docs, API v3."""

from __future__ import annotations

from typing import Any

from inferry.render.proxying import (
    BURST,
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
from inferry.render.yaml_text import Data, Why, yaml_text

_TYPES = "type.googleapis.com/envoy.extensions"
CLUSTER = "gateways"


def render_envoy(shipment: Shipment) -> Files:
    """`envoy.yaml`."""
    return {
        "envoy.yaml": yaml_text(
            _data(shipment), "Envoy for Inferry's gateways, made by 'inferry render envoy'."
        )
    }


def _data(shipment: Shipment) -> Data:
    return {
        "admin": Why(
            "It can stop Envoy and shows its configuration: never for other machines.",
            {"address": _address("127.0.0.1", 9901)},
        ),
        "static_resources": {
            "listeners": [_to_https(shipment), _clients(shipment)],
            "clusters": [_cluster(shipment)],
        },
        "overload_manager": Why(
            "Beyond so many connections, new ones are refused; those that there are go on.",
            {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": {
                            "@type": f"{_TYPES}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                            "max_active_downstream_connections": 20000,
                        },
                    }
                ]
            },
        ),
    }


def _address(host: str, port: int) -> Data:
    return {"socket_address": {"address": host, "port_value": port}}


def _manager(stat: str, routes: list[Any], **more: Any) -> Data:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat,
        **more,
        "route_config": {"virtual_hosts": [{"name": stat, "domains": ["*"], "routes": routes}]},
    }
    manager.setdefault("http_filters", [_router()])
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _router() -> Data:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
    }


def _to_https(shipment: Shipment) -> Data:
    redirect: dict[str, Any] = {"https_redirect": True, "response_code": "PERMANENT_REDIRECT"}
    if shipment.proxy.https_port != 443:
        redirect["port_redirect"] = shipment.proxy.https_port
    route = {
        "match": {"prefix": "/"},
        "redirect": Why(
            "308 keeps method and body. A key that came in clear has been seen already: revoke it.", redirect
        ),
    }
    return {
        "name": "to_https",
        "address": _address("0.0.0.0", shipment.proxy.http_port),
        "filter_chains": [{"filters": [_manager("to_https", [route])]}],
    }


def _clients(shipment: Shipment) -> Data:
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": f"{shipment.proxy.certificates}/fullchain.pem"},
                    "private_key": {"filename": f"{shipment.proxy.certificates}/privkey.pem"},
                }
            ],
        },
    }
    timeout_s = answer_timeout_s(shipment)
    routes = [
        {
            "match": {"path": "/metrics"},
            "direct_response": Why(
                "Prometheus asks the gateways themselves; from outside nobody does.",
                {"status": 404, "body": {"inline_string": NOT_HERE}},
            ),
        },
        {
            "match": {"prefix": "/"},
            "route": {
                "cluster": CLUSTER,
                "timeout": Why("Of the whole answer; 0 is none: streams take minutes.", "0s"),
                "idle_timeout": Why(
                    "Longer than the gateway's own, which knows why an answer does not come, and says it.",
                    f"{timeout_s}s",
                ),
                "retry_policy": Why(
                    "Another gateway only where this one has seen nothing of the request: an answer must not be paid twice.",
                    {
                        "retry_on": "connect-failure,refused-stream",
                        "num_retries": 2,
                        "retry_host_predicate": [
                            {
                                "name": "envoy.retry_host_predicates.previous_hosts",
                                "typed_config": {
                                    "@type": f"{_TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                                },
                            }
                        ],
                        "host_selection_retry_max_attempts": 3,
                    },
                ),
            },
            "response_headers_to_add": [
                {"header": {"key": "strict-transport-security", "value": "max-age=31536000"}}
            ],
        },
    ]
    manager = _manager(
        "clients",
        routes,
        codec_type="AUTO",
        use_remote_address=Why(
            "X-Forwarded-For is what Envoy saw itself; believed where gateway.trusted_proxies names this machine.",
            True,
        ),
        # x-request-id is the client's or the gateway's own.
        generate_request_id=False,
        preserve_external_request_id=True,
        server_header_transformation="PASS_THROUGH",
        request_headers_timeout="15s",
        stream_idle_timeout=f"{timeout_s}s",
        normalize_path=True,
        merge_slashes=True,
        common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"},
        local_reply_config=_own_replies(),
        access_log=[_access_log()],
        http_filters=[_limit(), _whole_requests(shipment), _router()],
    )
    return {
        "name": "clients",
        "address": _address("0.0.0.0", shipment.proxy.https_port),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [manager],
            }
        ],
    }


def _own_replies() -> Data:
    """Envoy's own errors in the API's shape."""
    retry: dict[str, Any] = {"headers_to_add": [{"header": {"key": "retry-after", "value": "2"}}]}
    return {
        "mappers": [
            _mapper(404, NOT_HERE),
            _mapper(413, TOO_LARGE),
            _mapper(429, TOO_MANY),
            {**_mapper(503, NO_GATEWAY), **retry},
        ],
        "body_format": {
            "json_format": {
                "error": {
                    "message": "%LOCAL_REPLY_BODY%",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "%RESPONSE_CODE_DETAILS%",
                }
            }
        },
    }


def _mapper(status: int, body: str) -> Data:
    return {
        "filter": {"status_code_filter": {"comparison": {"op": "EQ", "value": _status(status)}}},
        "body": {"inline_string": body},
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _status(code: int) -> Data:
    return {"default_value": code, "runtime_key": f"inferry.status_{code}"}


def _access_log() -> Data:
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {
                "text_format_source": {
                    "inline_string": Why(
                        "Nothing of the query or of headers: they may hold keys.",
                        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% [%START_TIME%] %REQ(:METHOD)% %PATH(NQ)%"
                        " %RESPONSE_CODE% %BYTES_SENT% %DURATION% %UPSTREAM_HOST% %RESPONSE_FLAGS%\n",
                    )
                }
            },
        },
    }


def _limit() -> Data:
    own = {"max_tokens": BURST, "tokens_per_fill": REQUESTS_PER_S, "fill_interval": "1s"}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "wall",
            "rate_limits": [{"actions": [{"remote_address": {}}]}],
            "descriptors": Why(
                "A wall before keys are looked at: each client address has a bucket of its own, as the entry names no"
                " value. Limits of users are the gateway's own.",
                [{"entries": [{"key": "remote_address"}], "token_bucket": own}],
            ),
            "max_dynamic_descriptors": Why("Buckets that are remembered; the default is 20.", 100000),
            "token_bucket": Why(
                "All addresses together.",
                {"max_tokens": 1000 * BURST, "tokens_per_fill": 1000 * REQUESTS_PER_S, "fill_interval": "1s"},
            ),
            "filter_enabled": {"default_value": {"numerator": 100}},
            "filter_enforced": {"default_value": {"numerator": 100}},
            "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        },
    }


def _whole_requests(shipment: Shipment) -> Data:
    return {
        "name": "envoy.filters.http.buffer",
        "typed_config": Why(
            "Requests are taken whole first: slow clients hold no gateway up, and what is longer than"
            " gateway.body_max_bytes gets 413. Answers are not touched.",
            {
                "@type": f"{_TYPES}.filters.http.buffer.v3.Buffer",
                "max_request_bytes": body_max_bytes(shipment),
            },
        ),
    }


def _cluster(shipment: Shipment) -> Data:
    endpoints = [
        {"endpoint": {"address": _address(each.host, each.port)}} for each in gateway_addresses(shipment)
    ]
    cluster: dict[str, Any] = {
        "name": CLUSTER,
        "type": Why("Names are looked up again, so that a gateway may move.", "STRICT_DNS"),
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": f"{connect_timeout_s(shipment)}s",
        "lb_policy": Why(
            "Requests differ by a thousandfold in length: the gateway with fewer under way is the less busy one.",
            "LEAST_REQUEST",
        ),
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": Why(
                    "A gateway that drains, or whose engines are all down, says 503: it gets nothing new, and ends what it has.",
                    {"path": "/health", "host": shipment.host},
                ),
            }
        ],
        "outlier_detection": Why(
            "One that can't be reached is left out between two health checks; never more than half of them.",
            {
                "consecutive_local_origin_failure": 2,
                "split_external_local_origin_errors": True,
                "enforcing_consecutive_5xx": Why("A 5xx may be an engine's, which all gateways share.", 0),
                "enforcing_consecutive_gateway_failure": 0,
                "enforcing_success_rate": 0,
                "base_ejection_time": "5s",
                "max_ejection_percent": 50,
            },
        ),
        "common_lb_config": {
            "healthy_panic_threshold": Why(
                "Better a 503 at once than a request to a gateway that is gone.", {"value": 0}
            )
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 20000,
                    "max_pending_requests": 20000,
                    "max_requests": Why("Each stream is one; the default of 1024 is soon reached.", 20000),
                    "max_retries": 100,
                }
            ]
        },
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {
                    "idle_timeout": Why(
                        "Closed here before the gateway does (75 s), so that no request meets a connection that is just"
                        " going.",
                        "60s",
                    )
                },
            }
        },
    }
    if upstream_tls(shipment):
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": Why(
                "The gateways have TLS of their own: their certificate must be for this name.",
                {
                    "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": shipment.host,
                    "common_tls_context": {
                        "validation_context": {
                            "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                            "match_typed_subject_alt_names": [
                                {"san_type": "DNS", "matcher": {"exact": shipment.host}}
                            ],
                        }
                    },
                },
            ),
        }
    return cluster
