"""Which of an engine's response headers a client gets, and what the gateway adds."""

from __future__ import annotations

from inferry.core.errors import InferryError
from inferry.gateway.account import Account
from inferry.gateway.errors import error_headers
from inferry.gateway.host import Host
from inferry.gateway.upstream import Headers

# Hop-by-hop headers (RFC 9110, 7.6.1), framing that the front decides, and what the gateway says itself.
_DROPPED = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"content-length", b"date", b"server", b"x-request-id", b"x-inferry-replica", b"x-inferry-deployment",
        b"x-inferry-fallback",
        b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers",
        b"x-inferry-generation", b"x-inferry-timing", b"x-inferry-why",
    }
)  # fmt: skip


def relayed_head(headers: Headers, id_line: bytes, replica_id: str) -> tuple[bytes, bool]:
    """Header lines for the client, and whether the body is a stream of events that can be looked into.

    Compressed events can't: they are only passed on.
    """
    is_events = is_encoded = False
    lines = [id_line, b"x-inferry-replica: %b\r\n" % replica_id.encode("ascii")]
    for name, value in headers:
        # The limits of a hosted engine are not the client's.
        if name in _DROPPED or name.startswith(b"x-ratelimit-"):
            continue
        if name == b"content-type":
            is_events = value.startswith(b"text/event-stream")
        elif name == b"content-encoding":
            is_encoded = True
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines), is_events and not is_encoded


def is_event_stream(headers: Headers) -> bool:
    """Whether the body is a stream of events that can be looked into."""
    return relayed_head(headers, b"", "")[1]


def own_lines(account: Account, gateway: Host) -> bytes:
    """Header lines that the gateway adds to an answer that begins now."""
    lines = gateway.edge.answer_lines(account.arrival)
    if account.course is not None and account.deployment is not None:
        lines += account.course.header_lines(account.deployment)
    if account.entry is not None:
        lines += account.entry.header_lines()
    if account.entered_s is not None and account.first_byte_s is not None and gateway.settings.timing_header:
        # Milliseconds: until nothing stood in the way; until it was sent to the engine; until its first byte.
        lines += b"x-inferry-timing: enter=%.2f, connect=%.2f, upstream=%.2f\r\n" % (
            (account.entered_s - account.received_s) * 1e3,
            (account.sent_s - account.entered_s) * 1e3,
            (account.first_byte_s - account.sent_s) * 1e3,
        )
    if account.why is not None:
        lines += b"x-inferry-why: " + account.why.encode("ascii") + b"\r\n"
    return lines


def refusal_lines(account: Account, gateway: Host, error: InferryError) -> bytes:
    """Header lines of an error of ours that stands in the place of an answer."""
    lines = (
        b"content-type: application/json\r\n" + account.arrival.id_line
        + error_headers(error) + gateway.edge.answer_lines(account.arrival)
    )  # fmt: skip
    if account.course is not None and account.deployment is not None:
        lines += account.course.header_lines(account.deployment)
    return lines if account.entry is None else lines + account.entry.header_lines()
