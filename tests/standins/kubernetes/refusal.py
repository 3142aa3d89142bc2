"""What the server says no with: a Status object, worded as Kubernetes words it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class Refusal(Exception):
    """One HTTP status with the Status object that belongs to it."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> Json:
        """Its body."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def not_found(resource: str, name: str, group: str = "") -> Refusal:
    """There is no such object."""
    full = f"{resource}.{group}" if group else resource
    details = {"name": name, "kind": resource, "group": group}
    return Refusal(404, "NotFound", f'{full} "{name}" not found', details)


def exists(resource: str, name: str, group: str = "") -> Refusal:
    """The name is taken."""
    full = f"{resource}.{group}" if group else resource
    details = {"name": name, "kind": resource, "group": group}
    return Refusal(409, "AlreadyExists", f'{full} "{name}" already exists', details)


def conflict(resource: str, name: str, why: str = "") -> Refusal:
    """Somebody else was quicker."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return Refusal(409, "Conflict", message, {"name": name, "kind": resource})


def bad_request(message: str) -> Refusal:
    """It can't even be read."""
    return Refusal(400, "BadRequest", message)


def invalid(kind: str, name: str, causes: list[tuple[str, str]], group: str = "") -> Refusal:
    """It can be read and makes no sense: each cause is a field and what is wrong with it."""
    full = f"{kind}.{group}" if group else kind
    said = "; ".join(f"{field}: {text}" for field, text in causes)
    listed = [{"reason": "FieldValueInvalid", "field": field, "message": text} for field, text in causes]
    details = {"name": name, "group": group, "kind": kind, "causes": listed}
    return Refusal(422, "Invalid", f'{full} "{name}" is invalid: {said}', details)
