"""URLs as they may be printed: one may hold a password or a signed query, also when it is malformed."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=//).*@", re.DOTALL)
_QUERY = re.compile(r"(?<=\?)[^#]+")


def shown_url(text: str) -> str:
    """`text` without the user, password and query of the URL that it is, or was meant to be.

    For instance `htp://...@h/v1?...` for `htp://user:secret@h/v1?key=secret`.
    """
    return _QUERY.sub("...", _USER.sub("...@", text)) if "//" in text else text
