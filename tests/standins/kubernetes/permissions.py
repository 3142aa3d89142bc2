"""Who asks, and whether the roles allow it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tests.standins.kubernetes.refusal import Json, Refusal
from tests.standins.kubernetes.store import Store

ADMIN = "standin-admin"
_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True)
class User:
    """A name and its groups."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a request wants, in the words of RBAC."""

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


def user_named(name: str) -> User:
    """A user with the groups that its name brings."""
    if name == ADMIN:
        return User(name, ("system:masters", "system:authenticated"))
    if name.startswith(_ACCOUNT):
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(name, groups)
    return User(name, ("system:authenticated",))


@dataclass
class Tokens:
    """Bearer tokens and whose they are."""

    names: dict[str, str] = field(default_factory=dict)

    def issue(self, user: str) -> str:
        """A new token of that user."""
        token = f"standin-{secrets.token_urlsafe(24)}"
        self.names[token] = user
        return token

    def user(self, header: str) -> User:
        """Whose the Authorization header is; 401 for a token that nobody issued."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return User("system:anonymous", ("system:unauthenticated",))
        if token not in self.names:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return user_named(self.names[token])


def _binds(binding: Json, user: User) -> bool:
    own = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount" and user.name == f"{_ACCOUNT}{subject.get('namespace', own)}:{name}":
            return True
        if (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return True
    return False


def _rule_allows(rule: Json, asked: Asked) -> bool:
    def has(word: str, value: str) -> bool:
        values = rule.get(word) or []
        return "*" in values or value in values

    if not has("verbs", asked.verb):
        return False
    if asked.path:
        return any(
            asked.path == url or (url.endswith("*") and asked.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or []
        )
    names = rule.get("resourceNames") or []
    below = asked.resource.partition("/")[2]
    resource = has("resources", asked.resource) or (below and f"*/{below}" in (rule.get("resources") or []))
    return has("apiGroups", asked.group) and bool(resource) and (not names or asked.name in names)


def allowed(store: Store, user: User, asked: Asked) -> bool:
    """Whether any role of that user allows it."""
    if "system:masters" in user.groups:
        return True
    if asked.path:
        return user.name != "system:anonymous" or asked.path in {"/version", "/healthz", "/readyz", "/livez"}
    if asked.group == "authorization.k8s.io":
        return True
    bindings = [(binding, "") for binding in store.of("clusterrolebindings")]
    if asked.namespace:
        bindings += [
            (binding, asked.namespace)
            for binding in store.of("rolebindings", asked.namespace)
            if binding["metadata"]["namespace"] == asked.namespace
        ]
    for binding, namespace in bindings:
        if not _binds(binding, user):
            continue
        reference = binding["roleRef"]
        cluster = reference["kind"] == "ClusterRole"
        group = "rbac.authorization.k8s.io"
        plural = "clusterroles" if cluster else "roles"
        role = store.things.get((group, plural, "" if cluster else namespace, reference["name"]))
        if role is not None and any(_rule_allows(rule, asked) for rule in role.get("rules") or []):
            return True
    return False


def forbidden(user: User, asked: Asked) -> Refusal:
    """403 in the real one's words."""
    if asked.path:
        message = f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"'
        return Refusal(403, "Forbidden", message)
    resource, full = (
        asked.resource.split("/")[0],
        asked.resource.split("/")[0] + (f".{asked.group}" if asked.group else ""),
    )
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    named = f' "{asked.name}"' if asked.name else ""
    message = (
        f'{full}{named} is forbidden: User "{user.name}" cannot {asked.verb} resource "{asked.resource}" '
        f'in API group "{asked.group}" {where}'
    )
    return Refusal(403, "Forbidden", message, {"kind": resource, "name": asked.name, "group": asked.group})
