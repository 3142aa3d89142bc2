"""Who is signed in at the dashboard: sessions in memory, which a browser names by a cookie.

A page of another site can make a browser send requests with its cookies. So the cookie is SameSite=Strict, and a
request that changes anything must also say the session's second secret in a header, which only our own page was told
(OWASP's Cross-Site Request Forgery Prevention Cheat Sheet calls it a synchronizer token).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from inferry.admin.visitors import Door, Visitor
from inferry.core.clock import Clock
from inferry.core.errors import CrossSiteRequest, MissingKey

IDLE_S = 12 * 3600.0
"""A session that nobody used for so long is over."""
SESSIONS_MAX = 1000
"""The one that was used longest ago goes first."""


@dataclass(slots=True)
class Session:
    """One browser that has signed in."""

    visitor: Visitor
    csrf: str
    used_s: float


class Sessions:
    """Those that are open. Only digests of their ids are kept."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._clock = clock
        self._open: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, credential: bytes) -> tuple[str, Session]:
        """A new session and its id, for the cookie. Raises Rejected."""
        visitor = self._door.enter(credential)
        while len(self._open) >= SESSIONS_MAX:
            del self._open[min(self._open, key=lambda each: self._open[each].used_s)]
        name = secrets.token_urlsafe(32)
        session = Session(visitor, secrets.token_urlsafe(32), self._clock.now_s())
        self._open[_digest(name)] = session
        return name, session

    def find(self, name: str) -> Session:
        """The session with this id. Raises MissingKey where there is none, or its key is no good any more."""
        session = self._open.get(_digest(name)) if name else None
        now_s = self._clock.now_s()
        if session is not None and (
            now_s - session.used_s > IDLE_S or not self._door.still_good(session.visitor)
        ):
            self.close(name)
            session = None
        if session is None:
            raise MissingKey("Nobody is signed in, or the session is over. Sign in again.")
        session.used_s = now_s
        return session

    def close(self, name: str) -> None:
        """Sign out."""
        self._open.pop(_digest(name), None)


def require_csrf(session: Session, given: str | None) -> None:
    """Raises CrossSiteRequest unless the request says what only our own page knows."""
    if given is None or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise CrossSiteRequest(
            "A change with a session's cookie must carry its x-inferry-csrf header too: see GET /session. "
            "Programs need no session: send 'Authorization: Bearer KEY'."
        )


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
