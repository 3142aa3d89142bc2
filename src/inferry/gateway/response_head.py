"""Which of an engine's response headers a client gets, and what the gateway adds."""

from __future__ import annotations

from inferry.gateway.upstream import Headers

# Hop-by-hop headers (RFC 9110, 7.6.1), framing that the front decides, and what the gateway says itself.
_DROPPED = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"content-length", b"date", b"server", b"x-request-id", b"x-inferry-replica",
        b"access-control-allow-origin", b"access-control-allow-credentials",
    }
)  # fmt: skip


def relayed_head(headers: Headers, request_id: str, replica_id: str) -> tuple[bytes, bool]:
    """Header lines for the client, and whether the body is a stream of events that can be looked into.

    Compressed events can't: they are only passed on.
    """
    is_events = is_encoded = False
    lines = [b"x-request-id: ", request_id.encode("ascii"), b"\r\n"]
    lines += (b"x-inferry-replica: ", replica_id.encode("ascii"), b"\r\n")
    for name, value in headers:
        if name in _DROPPED:
            continue
        if name == b"content-type":
            is_events = value.startswith(b"text/event-stream")
        elif name == b"content-encoding":
            is_encoded = True
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines), is_events and not is_encoded
