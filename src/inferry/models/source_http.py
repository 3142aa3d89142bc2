"""`http(s)://...`: a file behind a URL, downloaded in as many attempts as the line needs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

from inferry import __version__
from inferry.core.errors import ConfigError, ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import ModelRef
from inferry.models.disk import hash_file, require_room
from inferry.models.manifest import FILES_FOLDER, Fetched, StoredFile
from inferry.models.progress import Progress, phase
from inferry.models.store import shown_ref

if TYPE_CHECKING:
    import httpx

ATTEMPTS_MAX = 4
"""In one pull, each from where the last one broke off; an attempt that brings nothing is the last."""
CONNECT_S = 10.0
SILENCE_S = 60.0
"""A server that sends nothing for so long is taken for dead."""
WAY_OUT = "Check the network and pull again (it goes on where it stopped), or use 'file:'."


@dataclass(frozen=True, slots=True)
class _Known:
    """What the server said of the file of which we have a part; kept beside it."""

    validator: str | None
    """A strong ETag or a date, by which the server can tell whether our part is of the same file."""
    total_bytes: int | None


def fetch_from_url(
    ref: ModelRef, unfinished: Path, *, progress: Progress, environ: Mapping[str, str]
) -> Fetched:
    """Downloads the file; an optional `#sha256=<hex>` behind the URL is checked. See `Fetch`."""
    import httpx  # slow to import, and most pulls need none

    url, expected = split_checksum(ref.name)
    folder = unfinished / FILES_FOLDER
    folder.mkdir(exist_ok=True)
    part, shown = folder / _file_name(url), shown_ref(ref)
    headers = {"User-Agent": f"inferry/{__version__}", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    try:
        with httpx.Client(follow_redirects=True, timeout=timeout, headers=headers) as client:
            known = _download(client, url, part, shown, progress)
    except httpx.InvalidURL as error:
        raise ModelNotFound(f"{shown} is not a URL: {error}") from error
    except httpx.HTTPError as error:
        raise ModelFetchFailed(f"{shown} could not be fetched: {_reason(error)}. {WAY_OUT}") from error
    size_bytes = part.stat().st_size
    with phase(progress, f"checking {part.name}", size_bytes):
        sha256 = hash_file(part, progress)
    if expected is not None and sha256 != expected:
        _forget(part)
        raise ModelFetchFailed(
            f"{shown} brought a file whose sha256 is {sha256}: not what the URL asks for. It was deleted. "
            "Correct the checksum, or don't trust the server."
        )
    detail = f"validator {known.validator}" if known.validator else "no validator"
    return Fetched(folder, (StoredFile(part.name, size_bytes, sha256),), part.name, detail)


def split_checksum(url: str) -> tuple[str, str | None]:
    """The URL to ask for, and the sha256 in its fragment; ConfigError for a fragment that is none."""
    try:
        plain, fragment = urldefrag(url)
    except ValueError as error:
        raise ConfigError(f"This is not a URL: {error}") from error
    if not fragment:
        return plain, None
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise ConfigError(
            f"'#{fragment}' is no checksum. Behind '#' a URL may have sha256= and 64 hexadecimal digits."
        )
    return plain, found[1].lower()


def _download(client: httpx.Client, url: str, part: Path, shown: str, progress: Progress) -> _Known:
    """Fills `part`, trying again after a break for as long as each attempt brings something."""
    import httpx

    for attempt in range(1, ATTEMPTS_MAX + 1):
        before = _read_part(part)
        try:
            known = _attempt(client, url, part, shown, progress)
        except httpx.TransportError:
            if attempt == ATTEMPTS_MAX or _read_part(part) == before:
                raise
        else:
            if known is not None:
                return known
            _forget(part)
    raise ModelFetchFailed(f"{shown} changes while it is fetched. Pull again later, or use 'file:'.")


def _attempt(client: httpx.Client, url: str, part: Path, shown: str, progress: Progress) -> _Known | None:
    """One request for what is missing of `part`; None: what there is does not fit, begin anew."""
    have_bytes, known = _read_part(part)
    if known.total_bytes is not None and have_bytes == known.total_bytes:
        return known
    if known.validator is None or (known.total_bytes is not None and have_bytes > known.total_bytes):
        have_bytes = 0
    headers = {"Range": f"bytes={have_bytes}-", "If-Range": known.validator or ""} if have_bytes else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416 and have_bytes:
            return None
        _require_file(response, shown)
        if response.status_code == 206:
            start, total_bytes = _content_range(response)
            if start != have_bytes or (known.total_bytes or total_bytes) != total_bytes:
                return None
        else:
            have_bytes = 0
            length = response.headers.get("Content-Length", "")
            total_bytes = int(length) if length.isdigit() else None
            known = _Known(_validator(response), total_bytes)
        if total_bytes is not None:
            require_room(part.parent, total_bytes - have_bytes)
        with part.open("r+b" if have_bytes else "wb") as sink, phase(progress, part.name, total_bytes):
            sink.truncate(have_bytes)
            sink.seek(have_bytes)
            # Only now: beside an older part, the new validator would vouch for the old bytes.
            _state_path(part).write_text(json.dumps(asdict(known)), encoding="utf-8")
            progress.advance(have_bytes)
            # As the pieces come: gathered into larger ones, a cut would lose what was gathered.
            for piece in response.iter_raw():
                sink.write(piece)
                progress.advance(len(piece))
    size_bytes = part.stat().st_size
    if total_bytes is not None and size_bytes != total_bytes:
        _forget(part)
        raise ModelFetchFailed(
            f"{shown}: the server announced {total_bytes} bytes and sent {size_bytes}. It was deleted: pull again."
        )
    return known


def _require_file(response: httpx.Response, shown: str) -> None:
    """Raises when the answer is not the file, or a part of it."""
    status = response.status_code
    if status in (404, 410):
        raise ModelNotFound(f"{shown} does not exist (HTTP {status}). Check the URL.")
    if status in (401, 403):
        raise ModelFetchFailed(
            f"{shown} may not be fetched (HTTP {status}): it needs a login, or has expired."
        )
    if status not in (200, 206):
        raise ModelFetchFailed(f"{shown} could not be fetched: the server answered HTTP {status}. {WAY_OUT}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise ModelNotFound(f"{shown} is a web page, not a file. Use the link of the download itself.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ModelFetchFailed(f"{shown}: the server sends it compressed although asked not to; use 'file:'.")


def _content_range(response: httpx.Response) -> tuple[int, int | None]:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response: httpx.Response) -> str | None:
    """What If-Range accepts: a strong ETag, or a date (RFC 9110, 13.1.5); weak ETags don't vouch for bytes."""
    etag: str | None = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    date: str | None = response.headers.get("Last-Modified")
    return date


def _state_path(part: Path) -> Path:
    return part.parent.parent / "http.json"


def _read_part(part: Path) -> tuple[int, _Known]:
    """How many bytes there are, and what is known of them; nothing is known if the record is damaged."""
    try:
        known = _Known(**json.loads(_state_path(part).read_text(encoding="utf-8")))
        return part.stat().st_size, known
    except (FileNotFoundError, ValueError, TypeError):
        return 0, _Known(None, None)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _file_name(url: str) -> str:
    """The last part of the URL's path, made harmless; `model` when there is none."""
    try:
        last = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        last = ""
    return re.sub(r"[^\w.+-]", "_", last, flags=re.ASCII).lstrip(".")[-200:] or "model"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
