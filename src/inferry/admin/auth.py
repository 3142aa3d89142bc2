"""Who may call the control API over TCP. On the Unix socket nobody is asked: its folder's mode is the answer."""

from __future__ import annotations

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inferry.admin.error_pages import error_page
from inferry.admin.sessions import IDLE_S, Session, Sessions, require_csrf
from inferry.admin.visitors import Door, KeyDoor
from inferry.core.clock import Clock
from inferry.core.errors import (
    BodyTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    MissingKey,
    Rejected,
    WrongScope,
)
from inferry.ledger.keyring import KeyRing, credential_of

_LOOKING = {"GET", "HEAD"}
_FOR_ADMINS = ("/logs", "/gateway")
"""What engines print may hold prompts, and a prompt of its own costs something: not for those who just look."""
_SIGN_IN_MAX_BYTES = 4096


class _SignIn(msgspec.Struct, forbid_unknown_fields=True):
    key: str


class Gate:
    """An ASGI application in front of another, which asks each caller for a credential that its door accepts, or for
    a session's cookie. Open to all are only the dashboard's own files, which hold nothing of this instance.

    It answers before a byte of the body is read. `/session` is its own: POST {"key": ...} signs in, GET tells who
    is signed in (an empty name: nobody), DELETE signs out.
    """

    def __init__(self, app: ASGIApp, door: Door, clock: Clock) -> None:
        self._app = app
        self._door = door
        self.sessions = Sessions(door, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and none may come in beside the gate
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                if scope["path"] == "/session":
                    await (await self._session(scope, receive))(scope, receive, send)
                    return
                self._check(scope)
            except Rejected as error:
                await error_page(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        path, looks = scope["path"], scope["method"] in _LOOKING
        if looks and (path == "/" or path.startswith("/ui/")):
            return
        headers = Headers(scope=scope)
        credential = _credential(headers)
        if not credential and (name := _cookie(headers, scope)):
            session = self.sessions.find(name)
            visitor = session.visitor
            if not looks:
                require_csrf(session, headers.get("x-inferry-csrf"))
        else:
            visitor = self._door.enter(credential)
        if not visitor.may_change and (not looks or path.startswith(_FOR_ADMINS)):
            raise WrongScope(f"{visitor.name} is for read-only; this needs a key with scope admin.")

    async def _session(self, scope: Scope, receive: Receive) -> Response:
        headers = Headers(scope=scope)
        name = _cookie(headers, scope)
        if scope["method"] in _LOOKING:
            try:
                return _told(self.sessions.find(name))
            except MissingKey:  # an answer, and no error: a page asks before anybody has signed in
                return _told(None)
        if scope["method"] == "POST":
            name, session = self.sessions.open(await _signing_in(Request(scope, receive)))
            answer = _told(session)
            _set_cookie(answer, scope, name, IDLE_S)
            return answer
        if scope["method"] == "DELETE":
            require_csrf(self.sessions.find(name), headers.get("x-inferry-csrf"))
            self.sessions.close(name)
            answer = Response(status_code=204)
            _set_cookie(answer, scope, "", 0)
            return answer
        raise MethodNotAllowed(f"/session does not take {scope['method']}.")


class KeyGate(Gate):
    """For the keys of the store: scope admin, or read-only just to look."""

    def __init__(self, app: ASGIApp, keyring: KeyRing, clock: Clock) -> None:
        super().__init__(app, KeyDoor(keyring, clock), clock)


def _credential(headers: Headers) -> bytes:
    authorization, x_api_key = (
        None if value is None else value.encode("latin-1")
        for value in (headers.get("authorization"), headers.get("x-api-key"))
    )
    return credential_of(authorization, x_api_key)


def _cookie_name(scope: Scope) -> str:
    # A browser sends a cookie to all ports of a host; several instances on one machine must not take each other's.
    server = scope.get("server")
    return f"inferry_session_{server[1] if server else 0}"


def _cookie(headers: Headers, scope: Scope) -> str:
    return cookie_parser(headers.get("cookie", "")).get(_cookie_name(scope), "")


def _set_cookie(answer: Response, scope: Scope, name: str, age_s: float) -> None:
    answer.set_cookie(
        _cookie_name(scope),
        name,
        max_age=int(age_s),
        path="/",
        secure=scope["scheme"] == "https",
        httponly=True,
        samesite="strict",
    )


async def _signing_in(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _SIGN_IN_MAX_BYTES:
            raise BodyTooLarge(f"A sign-in has at most {_SIGN_IN_MAX_BYTES} bytes.")
    try:
        return msgspec.json.decode(body, type=_SignIn).key.strip().encode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest('Sign in with a JSON object: {"key": "..."}.', param="key") from None


def _told(session: Session | None) -> Response:
    told: dict[str, object] = {"name": "", "may_change": False, "csrf": ""}
    if session is not None:
        visitor = session.visitor
        told = {"name": visitor.name, "may_change": visitor.may_change, "csrf": session.csrf}
    body = msgspec.json.encode(told)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
