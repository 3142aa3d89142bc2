"""Every error of the control API as `{"error": {...}}`, in the form that the gateway has."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from inferry.core.errors import InferryError, InvalidRequest, MethodNotAllowed, UnknownRoute
from inferry.core.request import Dialect
from inferry.gateway.errors import render_error


def error_page(error: InferryError) -> Response:
    """The answer for an error."""
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None  # RFC 9110, section 11.6.1
    body = render_error(error, Dialect.OPENAI)
    return Response(body, error.status, headers=headers, media_type="application/json")


def install_error_pages(app: FastAPI) -> None:
    """Make `app` answer all errors so."""

    @app.exception_handler(InferryError)
    async def ours(_: Request, error: InferryError) -> Response:
        return error_page(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        # Where and why; never what was sent.
        problems = [
            (".".join(str(part) for part in found["loc"] if part != "body"), found["msg"])
            for found in error.errors()
        ]
        message = "; ".join(f"{where or 'the body'}: {why}" for where, why in problems)
        return error_page(InvalidRequest(message, param=problems[0][0] or None))

    @app.exception_handler(HTTPException)
    async def off_the_map(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return error_page(MethodNotAllowed(f"{request.url.path} does not take {request.method}."))
        if error.status_code == 404:
            return error_page(UnknownRoute(f"There is no {request.url.path} in the control API."))
        return error_page(InvalidRequest(str(error.detail)))
