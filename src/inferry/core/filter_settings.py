"""The entries of `filters:`: what is looked for in requests and answers, and what happens when it is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from inferry.core.section import Section, is_reference

Detector = Literal["email", "phone", "card", "iban", "ip", "secret"]
FileType = Literal[
    "png", "jpeg", "gif", "webp", "bmp", "tiff", "heic", "avif", "svg", "pdf", "text", "mp3", "wav", "flac", "ogg",
    "mp4", "webm", "unknown",
]  # fmt: skip
# The names of filters go into a header and into metrics' labels.
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


def _filter_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"'{value}' can't be a filter's name: use small letters, digits and _ - (63 at most)"
        )
    return value


def split_classifier_url(url: str) -> tuple[bool, str, int, str]:
    """(tls, host, port, path) of a classifier's address; raises ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("write the address as http://HOST:PORT/PATH") from None
    if set("@#") & set(url) or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the address has no user and no fragment, and only ASCII signs")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("write the address as http://HOST:PORT/PATH")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return tls, parts.hostname, port or (443 if tls else 80), path


class Classifier(Section):
    """A program of others that judges texts: it is asked and answers as OpenAI's moderations do."""

    url: str = Field(description="Whole address, for instance http://10.0.0.9:8080/v1/moderations")
    model: str | None = Field(None, max_length=200, description="Sent as `model`. Left out: not sent.")
    api_key: SecretStr | None = Field(
        None, description="Key that it asks for, as a reference: ${CLASSIFIER_KEY}."
    )
    timeout_s: float = Field(5.0, gt=0, le=120, description="For one question.")
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A category's score from which on it counts. Left out: its own `flagged`.",
    )
    on_error: Literal["pass", "block"] = Field(
        "block", description="When it can't be reached, is late or its answer can't be read."
    )
    window_chars: int = Field(
        400,
        ge=20,
        le=100_000,
        description="Streams: it is asked once per so many characters, and they wait for its answer.",
    )

    @field_validator("url")
    @classmethod
    def _url_is_address(cls, value: str) -> str:
        split_classifier_url(value)
        return value

    @field_validator("api_key", mode="before")
    @classmethod
    def _key_is_reference(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and not is_reference(value, info):
            raise ValueError("a key in the file would be stored in clear: write ${NAME} and set NAME outside")
        return value

    @field_validator("api_key")
    @classmethod
    def _key_fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("the key is empty or holds a sign that no HTTP header can carry")
        return value


_KINDS = ("terms", "patterns", "detect", "prompt_chars_max", "file_types", "classifier", "guard")


class Filter(Section):
    """One rule: where to look (`on`), for what (one of the kinds), and what to do (`action`)."""

    name: Annotated[str, AfterValidator(_filter_name)] = Field(
        description="Shown in errors, metrics and x-inferry-flags."
    )
    on: Literal["input", "output", "both"] = Field("both", description="Requests, answers, or both.")
    action: Literal["block", "mask", "flag"] = Field(
        "block", description="block: refuse or end; mask: replace what was found; flag: only report."
    )
    mask_with: str = Field("[removed]", max_length=200, description="What stands in place of a masked text.")
    terms: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        None, min_length=1, max_length=100_000, description="Words or phrases."
    )
    terms_file: str | None = Field(
        None, description="More of them: a UTF-8 file, one a line; empty lines and lines with # don't count."
    )
    ignore_case: bool = Field(True, description="Terms: whether upper and lower case are the same.")
    whole_words: bool = Field(
        False, description="Terms: only where no letter, digit or _ stands right before or behind."
    )
    patterns: list[Annotated[str, Field(min_length=1, max_length=2000)]] | None = Field(
        None, min_length=1, max_length=1000, description="Regular expressions in RE2's syntax."
    )
    max_chars: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Patterns with * or + need it: the longest text that one match may cover.",
    )
    detect: list[Detector] | None = Field(
        None, min_length=1, max_length=20, description="Personal data and secrets."
    )
    phone_region: str | None = Field(
        None,
        pattern=r"[A-Z]{2}",
        description="Country (DE, US, CN) whose numbers are found without +. Left out: only with +.",
    )
    prompt_chars_max: int | None = Field(
        None, ge=1, le=10**9, description="Longest prompt: all texts of the request together."
    )
    file_types: list[FileType] | None = Field(
        None, max_length=50, description="Images, sound and files that a request may hold; others are found."
    )
    classifier: Classifier | None = Field(None, description="A program of others that judges texts.")
    guard: str | None = Field(
        None, description="A deployment of this file that serves a guard model, which answers safe or unsafe."
    )
    guard_timeout_s: float = Field(30.0, gt=0, le=600, description="For one question to the guard.")
    guard_on_error: Literal["pass", "block"] = Field(
        "block", description="When the guard can't answer, or says neither safe nor unsafe."
    )
    guard_window_chars: int = Field(
        400, ge=20, le=100_000, description="Streams: the guard is asked once per so many characters."
    )
    tenants: list[str] | None = Field(None, max_length=10_000, description="Only for these. Left out: all.")
    keys: list[str] | None = Field(
        None, max_length=10_000, description="Only for these keys, by id. Left out: all."
    )
    except_tenants: list[str] = Field(default_factory=list, max_length=10_000, description="Not for these.")
    except_keys: list[str] = Field(
        default_factory=list, max_length=10_000, description="Not for these keys, by id."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Filter:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if self.terms_file is not None and "terms" not in given:
            given.insert(0, "terms")
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(
                f"a filter looks for one thing: give one of {', '.join(_KINDS)} (terms_file counts as terms), "
                f"not {found}"
            )
        kind = given[0]
        if kind in ("prompt_chars_max", "file_types") and self.on == "output":
            raise ValueError(f"'{kind}' is about requests: write 'on: input'")
        if kind not in ("terms", "patterns", "detect") and self.action == "mask":
            raise ValueError(f"'{kind}' finds no place in the text to mask: use block or flag")
        if self.max_chars is not None and kind != "patterns":
            raise ValueError("'max_chars' is for patterns")
        return self

    def resolved_against(self, folder: Path) -> Filter:
        """The same, with a relative `terms_file` made absolute below `folder`."""
        if self.terms_file is None:
            return self
        return self.model_copy(update={"terms_file": str(folder / Path(self.terms_file).expanduser())})
