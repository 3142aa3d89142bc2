"""The `gateway:` section of the deployment file: the one address that clients talk to."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ByteSize, Field, ValidationInfo, field_validator, model_validator

from inferry.core.filter_settings import Filter
from inferry.core.limits import Limits
from inferry.core.section import Section, bound_bytes, password_as_reference


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8000`, `[::1]:8000` or `localhost:8000`; raises ValueError."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit() or not host:
        raise ValueError("write it as HOST:PORT, for instance 127.0.0.1:8000")
    port = int(port_text)
    if port > 65535:
        raise ValueError(f"the port must be 0 to 65535, not {port}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("put an IPv6 address in brackets, for instance [::1]:8000")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(value: str) -> str:
    scheme, _, rest = value.partition("://")
    if value != "*" and (scheme not in ("http", "https") or not rest or set("/?#@ ") & set(rest)):
        raise ValueError(f"'{value}' is not an origin: write https://HOST or https://HOST:PORT, or '*'")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"'{value}' is not an address or network: write 10.0.0.7 or 10.0.0.0/8") from None
    return value


class Tls(Section):
    """HTTPS on the gateway's own port. Both files are read again when they change."""

    certificate: str = Field(description="PEM file: the certificate, then the chain.")
    key: str = Field(description="PEM file with the private key, without a password.")

    def resolved_against(self, folder: Path) -> Tls:
        """The same, with relative paths made absolute below `folder`."""
        return self.model_copy(
            update={
                "certificate": str(folder / Path(self.certificate).expanduser()),
                "key": str(folder / Path(self.key).expanduser()),
            }
        )


class Cors(Section):
    """Which web pages may call the gateway from a browser."""

    origins: list[Annotated[str, AfterValidator(_origin)]] = Field(
        min_length=1, max_length=1000, description="https://HOST[:PORT], each; or '*' for all."
    )
    credentials: bool = Field(False, description="Whether browsers may send cookies and the like along.")
    max_age_s: int = Field(600, ge=0, le=86400, description="How long browsers may remember a preflight.")

    @model_validator(mode="after")
    def _star_has_no_credentials(self) -> Cors:
        if self.credentials and "*" in self.origins:
            raise ValueError("'credentials: true' needs the origins by name: browsers refuse it with '*'")
        return self


class SharedLimits(Section):
    """Where limits are counted when several hosts serve the same keys."""

    redis: str | None = Field(
        None,
        description="redis://HOST:PORT/DB of a Redis or Valkey that all hosts use; as ${NAME} if it has a password. "
        "Left out: each host counts for itself.",
    )
    namespace: str = Field(
        "inferry", pattern=r"[\w.-]{1,64}", description="Hosts with the same one share their counts."
    )
    when_gone: Literal["last", "share", "closed"] = Field(
        "last",
        description="While Redis can't be reached. last: each host admits per minute what it was granted in the "
        "last minute before; share: each admits its even share of the limit; closed: limited keys get 503.",
    )

    @field_validator("redis", mode="before")
    @classmethod
    def _password_is_reference(cls, value: object, info: ValidationInfo) -> object:
        return password_as_reference(value, info)

    @field_validator("redis")
    @classmethod
    def _redis_is_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write it as redis://HOST:PORT/DB (rediss:// with TLS, unix:///PATH)")
        return value


class Traces(Section):
    """OpenTelemetry spans, one per request (the `otel` extra)."""

    endpoint: str = Field(
        pattern=r"https?://.+", description="OTLP over HTTP: http://HOST:4318/v1/traces, with the path."
    )
    sample: float = Field(1.0, ge=0, le=1, description="Share of requests, where the caller has not decided.")


class Gateway(Section):
    """The one address that clients talk to."""

    listen: str = Field(
        "127.0.0.1:8000",
        description="HOST:PORT to listen on. Loopback by default, since there are no keys by default.",
    )
    auth: Literal["keys", "none"] = Field(
        "none",
        description="keys: every request needs an API key ('inferry keys create'); none: anybody may ask.",
    )
    allow_unauthenticated: bool = Field(
        False, description="Must be true to listen on an address that other machines can reach without keys."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Gateway processes that share the port; each uses one core at most."
    )
    tls: Tls | None = Field(None, description="HTTPS. Left out: plain HTTP.")
    cors: Cors | None = Field(None, description="Left out: browsers let no other site's pages read answers.")
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    key_limits: Limits = Field(
        default_factory=lambda: Limits(), description="For each key that has no limits of its own."
    )
    shared_limits: SharedLimits = Field(
        default_factory=lambda: SharedLimits(), description="Limits over several hosts."
    )
    filters: list[Filter] = Field(
        default_factory=list, max_length=1000, description="For requests and answers of all deployments."
    )
    access_log: bool = Field(False, description="One line per request in the log, without prompts or keys.")
    traces: Traces | None = Field(None, description="Left out: no spans.")
    timing_header: bool = Field(
        True, description="x-inferry-timing in answers: where the time went until the answer began."
    )
    body_max_bytes: ByteSize = Field(
        ByteSize(32 * 1024 * 1024),
        ge=1024,
        le=1024**3,
        json_schema_extra=bound_bytes,
        description="Longest request body; a longer one gets 413. 32 MiB holds a few images or 1M tokens.",
    )
    attempts_max: int = Field(
        3, ge=1, le=10, description="Replicas to try for one request before its answer has begun."
    )
    connect_timeout_s: float = Field(5.0, gt=0, le=60, description="To open a connection to a replica.")
    first_byte_timeout_s: float = Field(
        600.0, gt=0, le=7200, description="From request to the first byte of the answer: queue and prefill."
    )
    idle_timeout_s: float = Field(
        120.0, gt=0, le=7200, description="Longest silence of an engine in the middle of an answer."
    )
    drain_s: float = Field(
        30.0, ge=0, le=3600, description="At shutdown, how long running answers may take to finish."
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_address(cls, value: str) -> str:
        split_listen(value)
        return value

    @model_validator(mode="after")
    def _wide_address_is_meant(self) -> Gateway:
        host, _ = split_listen(self.listen)
        if not is_loopback(host) and self.auth == "none" and not self.allow_unauthenticated:
            raise ValueError(
                f"'{self.listen}' can be reached from other machines, and this gateway asks for no keys. "
                "Ask for keys ('auth: keys'), listen on 127.0.0.1, or write 'allow_unauthenticated: true' beside "
                "it if that is meant."
            )
        return self

    @property
    def host(self) -> str:
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]


class Admin(Section):
    """The control API for other machines and programs. On this machine, the CLI needs no address."""

    listen: str | None = Field(
        None,
        description="HOST:PORT for the admin API; each call needs a key with scope admin (or read-only).",
    )
    tls: Tls | None = Field(None, description="HTTPS on that port.")

    @field_validator("listen")
    @classmethod
    def _listen_is_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_listen(value)
        return value


class Ledger(Section):
    """Keys, usage and costs: where they are kept, and for how long."""

    url: str | None = Field(
        None,
        description="sqlite:///PATH or postgresql://HOST/DB (the `postgres` extra); as ${NAME} if it has a password. "
        "Left out: a SQLite file in INFERRY_HOME.",
    )
    keep_days: int = Field(
        90, ge=1, le=36500, description="Single outcomes are kept so long; daily sums are kept for ever."
    )
    currency: str = Field("USD", pattern=r"[A-Z]{3}", description="Of all prices and money budgets.")

    @field_validator("url", mode="before")
    @classmethod
    def _password_is_reference(cls, value: object, info: ValidationInfo) -> object:
        return password_as_reference(value, info)

    @field_validator("url")
    @classmethod
    def _url_is_known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(
            ("sqlite:///", "postgresql://", "postgresql+psycopg://")
        ):
            raise ValueError("write it as sqlite:///PATH or postgresql://USER@HOST/DB")
        return value


class Price(Section):
    """What tokens cost, in ledger.currency per million."""

    prompt_per_mtok: float = Field(0.0, ge=0, le=10**6, description="Prompt tokens that were not cached.")
    cached_per_mtok: float | None = Field(
        None, ge=0, le=10**6, description="Prompt tokens from the cache. Left out: as other prompt tokens."
    )
    completion_per_mtok: float = Field(0.0, ge=0, le=10**6, description="Generated tokens.")


class Queue(Section):
    """Requests that wait because the replicas are busy."""

    running_max: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="Requests at one replica at the same time; more wait here. Left out: as many as the engine's own "
        "slots and once more waiting there, where Inferry knows them; otherwise no bound.",
    )
    waiting_max: int = Field(1000, ge=0, le=10**6, description="Requests that may wait; more get 429.")
    wait_max_s: float = Field(30.0, ge=0, le=3600, description="Longest wait; then 429.")


class Tenant(Section):
    """Who owns keys."""

    limits: Limits = Field(
        default_factory=lambda: Limits(), description="For all keys of the tenant together."
    )
    weight: float = Field(
        1.0, gt=0, le=1000, description="Share of a busy deployment, against other tenants'."
    )
