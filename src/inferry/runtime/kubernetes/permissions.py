"""What the runtime may do in its namespace, and nothing more: the rules of its Role.

Plain data, so that whoever writes the Role needs nothing of the client. A call that is not covered here is refused in
a cluster that took these rules at their word, and the tests run under exactly them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role, and why it is there."""

    groups: tuple[str, ...]
    """API groups; empty text: the core group."""
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    because: str


RULES: tuple[Rule, ...] = (
    Rule(
        ("",),
        ("pods",),
        ("get", "list", "watch"),
        "replicas are pods: where they are, and how they fare",
    ),
    Rule(
        ("",),
        ("pods",),
        ("patch", "delete"),
        "a replica that is to leave is marked as the cheapest one to delete, and one that is stuck is deleted",
    ),
    Rule(("",), ("pods/log",), ("get",), "the last lines of an engine that ended say why"),
    Rule(
        ("apps",),
        ("deployments",),
        ("get", "list", "watch", "create", "patch"),
        "one Deployment for each deployment of the file: followed, and made where nobody has made it",
    ),
    Rule(
        ("apps",),
        ("deployments/scale",),
        ("get", "patch", "update"),
        "scaling changes a number, not a Deployment",
    ),
    Rule(
        ("coordination.k8s.io",),
        ("leases",),
        ("get", "create", "update"),
        "of several gateways, one decides",
    ),
)
