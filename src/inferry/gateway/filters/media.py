"""Which types of files a request holds: by what it says of them, and by how they begin."""

from __future__ import annotations

import base64
import binascii

UNKNOWN = "unknown"
_EXTENSIONS = {
    "png": "png", "jpg": "jpeg", "jpeg": "jpeg", "gif": "gif", "webp": "webp", "bmp": "bmp", "tif": "tiff",
    "tiff": "tiff", "heic": "heic", "heif": "heic", "avif": "avif", "svg": "svg", "pdf": "pdf", "txt": "text",
    "md": "text", "csv": "text", "mp3": "mp3", "wav": "wav", "flac": "flac", "ogg": "ogg", "mp4": "mp4",
    "webm": "webm",
}  # fmt: skip
# Subtypes of IANA's registry that are not called as the extension is.
_SUBTYPES = {
    "svg+xml": "svg", "plain": "text", "markdown": "text", "mpeg": "mp3", "x-wav": "wav", "wave": "wav", "x-flac": "flac",
    "x-ms-bmp": "bmp",
}  # fmt: skip
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (4, b"ftypheic", "heic"),
    (4, b"ftypavif", "avif"),
    (0, b"%PDF-", "pdf"),
    (0, b"ID3", "mp3"),
    (8, b"WAVE", "wav"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"\x1a\x45\xdf\xa3", "webm"),
    (4, b"ftyp", "mp4"),
)


def types_of_url(url: str) -> set[str]:
    """Of a `data:` URL both what it says and what its first bytes say; of another by its ending."""
    if url[:5].lower() == "data:":
        head, _, data = url[5:].partition(",")
        media_type, *parameters = head.split(";")
        if "base64" in (each.strip().lower() for each in parameters):
            return types_of_base64(media_type, data)
        return {_type_named(media_type)}
    path = url.partition("?")[0].partition("#")[0]
    name = path.rpartition("/")[2]
    return {_EXTENSIONS.get(name.rpartition(".")[2].lower(), UNKNOWN) if "." in name else UNKNOWN}


def types_of_base64(media_type: str, data: str) -> set[str]:
    """Two where the file's first bytes belie its name."""
    named = _type_named(media_type)
    try:
        first = base64.b64decode("".join(data[:64].split())[:32] + "==", validate=False)
    except (binascii.Error, ValueError):
        return {named, UNKNOWN}
    found = next((kind for at, mark, kind in _BEGINNINGS if first[at : at + len(mark)] == mark), None)
    return {named} if found is None else {named, found}


def _type_named(media_type: str) -> str:
    subtype = media_type.strip().lower().rpartition("/")[2]
    return _EXTENSIONS.get(subtype) or _SUBTYPES.get(subtype, UNKNOWN)
