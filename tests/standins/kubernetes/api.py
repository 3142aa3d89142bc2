"""HTTP to objects: which path means what, who may, and what is answered. Watches and logs stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import yaml
from aiohttp import web

from tests.standins.kubernetes import discovery, protobuf_bodies, schemas, subresources, tables
from tests.standins.kubernetes.kinds import Kind, of_definition
from tests.standins.kubernetes.patches import applied, json_patch, merge, strategic
from tests.standins.kubernetes.permissions import ADMIN, Asked, Tokens, User, allowed, forbidden, user_named
from tests.standins.kubernetes.refusal import Json, Refusal, bad_request, not_found
from tests.standins.kubernetes.selectors import Matches, by_fields, by_labels
from tests.standins.kubernetes.store import Store, random_name
from tests.standins.kubernetes.watching import Watches


@dataclass(frozen=True)
class Place:
    """What a path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    below: str = ""


_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Api:
    """The HTTP side. `faults` are set by tests."""

    def __init__(self, store: Store, tokens: Tokens, rbac: bool) -> None:
        self.store = store
        self.tokens = tokens
        self.rbac = rbac
        self.is_down = False
        self.slow_s = 0.0
        self.watches = Watches(store)
        self.address = ""
        # Set by the kubelet: reads a container's log.
        self.logs: subresources.ReadLog = subresources.no_log
        self.requests: list[tuple[str, str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Each request comes through here."""
        if self.is_down:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=503)
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return web.json_response(refusal.status(), status=refusal.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = self.tokens.user(request.headers.get("Authorization", ""))
        if not self.rbac and user.name == "system:anonymous":
            user = user_named(ADMIN)
        path = request.path
        self.requests.append((user.name, request.method, request.path_qs))
        place = self._place(path)
        if place is None:
            asked = Asked(_VERBS.get(request.method, "get"), path=path)
            reviewing = path.startswith("/apis/authorization.k8s.io/v1/selfsubject")
            if self.rbac and not reviewing and not allowed(self.store, user, asked):
                raise forbidden(user, asked)
            return await self._unplaced(request, user, path)
        self._permit(request, user, place)
        if place.below:
            return await self._below(request, place)
        if request.method == "GET" and not place.name:
            return await self._list(request, place)
        if request.method == "GET":
            if request.query.get("watch") in {"1", "true"}:
                return await self._list(request, place)
            thing = self.store.get(place.kind, place.namespace, place.name)
            return tables.response(request, place.kind, thing)
        return await self._write(request, place)

    # --- paths ---

    def _place(self, path: str) -> Place | None:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api" and len(parts) > 2:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        kind = self.store.kinds.find(group, version, rest[0])
        if kind is None:
            if group == "authorization.k8s.io":
                return None
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        name, below = (rest[1] if len(rest) > 1 else ""), "/".join(rest[2:])
        return Place(kind, namespace, name, below)

    def _permit(self, request: web.Request, user: User, place: Place) -> None:
        verb = _VERBS.get(request.method, "get")
        if verb == "get" and request.query.get("watch") in {"1", "true"}:
            verb = "watch"
        elif verb == "get" and not place.name:
            verb = "list"
        elif verb == "delete" and not place.name:
            verb = "deletecollection"
        resource = place.kind.plural + (f"/{place.below}" if place.below else "")
        name = place.name
        if not name and (found := by_name_only(request.query.get("fieldSelector", ""))):
            name = found
        asked = Asked(verb, place.kind.group, resource, place.namespace, name)
        if self.rbac and not allowed(self.store, user, asked):
            raise forbidden(user, asked)

    async def _unplaced(self, request: web.Request, user: User, path: str) -> web.StreamResponse:
        kinds = self.store.kinds
        parts = path.strip("/").split("/")
        body: Any = None
        if path in {"/healthz", "/livez", "/readyz"}:
            return web.Response(text="ok")
        if path == "/version":
            body = discovery.version()
        elif path == "/api":
            body = discovery.core_versions(self.address)
        elif path == "/apis":
            body = discovery.groups(kinds)
        elif path == "/openapi/v3":
            body = discovery.openapi_index(kinds)
        elif path.startswith("/openapi/v3/"):
            group, version = (parts[3], parts[4]) if parts[2] == "apis" else ("", parts[3])
            body = discovery.openapi(kinds, group, version)
        elif parts[0] == "api" and len(parts) == 2:
            body = discovery.resources(kinds, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            body = discovery.resources(kinds, parts[1], parts[2])
        elif path.endswith("/selfsubjectaccessreviews") and request.method == "POST":
            return web.json_response(self._review(user, await self.body(request)), status=201)
        if body is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return web.json_response(body)

    def _review(self, user: User, review: Json) -> Json:
        attributes = (review.get("spec") or {}).get("resourceAttributes") or {}
        below = attributes.get("subresource", "")
        plain = (review.get("spec") or {}).get("nonResourceAttributes")
        if plain:
            asked = Asked(plain.get("verb", ""), path=plain.get("path", ""))
            return {**review, "status": {"allowed": not self.rbac or allowed(self.store, user, asked)}}
        asked = Asked(
            attributes.get("verb", ""),
            attributes.get("group", ""),
            attributes.get("resource", "") + (f"/{below}" if below else ""),
            attributes.get("namespace", ""),
            attributes.get("name", ""),
        )
        return {**review, "status": {"allowed": not self.rbac or allowed(self.store, user, asked)}}

    # --- reading ---

    def _filter(self, request: web.Request, place: Place) -> Matches:
        labels = by_labels(request.query.get("labelSelector", ""))
        fields = by_fields(request.query.get("fieldSelector", ""))

        def matches(thing: Json) -> bool:
            metadata = thing["metadata"]
            inside = not place.namespace or metadata.get("namespace") == place.namespace
            named = not place.name or metadata["name"] == place.name
            return inside and named and labels(thing) and fields(thing)

        return matches

    async def _list(self, request: web.Request, place: Place) -> web.StreamResponse:
        matches = self._filter(request, place)
        if request.query.get("watch") in {"1", "true"}:
            return await self.watches.serve(request, place.kind, matches)
        exact = request.query.get("resourceVersionMatch") == "Exact"
        wanted = int(request.query.get("resourceVersion") or 0)
        if exact and wanted < self.store.version:
            raise Refusal(410, "Expired", f"The resourceVersion for the provided list is too old: {wanted}")
        items = [thing for thing in self.store.every(place.kind, place.namespace) if matches(thing)]
        return tables.list_response(request, place.kind, items, str(self.store.version))

    # --- writing ---

    async def body(self, request: web.Request) -> Json:
        """What was sent: JSON, YAML, or one of the few protobuf messages."""
        raw = await request.read()
        if not raw:
            return {}
        if raw.startswith(protobuf_bodies.MAGIC):
            return protobuf_bodies.decoded(raw)
        try:
            body = yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw)
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from error
        if not isinstance(body, dict):
            raise bad_request(f"the object provided is unrecognized: {str(body)[:80]}")
        return body

    def _complete(self, place: Place, thing: Json) -> None:
        """What the path says, and whether the object says otherwise."""
        kind = place.kind
        for word, value in (("apiVersion", kind.api_version), ("kind", kind.kind)):
            if thing.setdefault(word, value) != value:
                raise bad_request(
                    f"the {word} in the data ({thing[word]}) does not match the expected {word} ({value})"
                )
        metadata = thing.setdefault("metadata", {})
        if place.name and metadata.setdefault("name", place.name) != place.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({place.name})"
            )
        if kind.namespaced and metadata.setdefault("namespace", place.namespace) != place.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = random_name(metadata["generateName"])

    async def _write(self, request: web.Request, place: Place) -> web.StreamResponse:
        dry = "dryRun" in request.query
        method = request.method
        if method == "DELETE":
            return await self._delete(request, place, dry)
        if method == "POST" and not place.name:
            thing = await self.body(request)
            self._complete(place, thing)
            return self._reply(place.kind, self.create(place.kind, thing, dry), 201)
        if method == "PUT":
            thing = await self.body(request)
            self._complete(place, thing)
            schemas.judge(place.kind, thing)
            return self._reply(place.kind, self.store.update(place.kind, thing, dry=dry))
        if method == "PATCH":
            return await self._patch(request, place, dry)
        raise Refusal(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def create(self, kind: Kind, thing: Json, dry: bool = False) -> Json:
        """With all that must be true before."""
        metadata = thing["metadata"]
        namespace = metadata.get("namespace", "")
        if kind.namespaced:
            found = self.store.things.get(("", "namespaces", "", namespace))
            if found is None:
                raise not_found("namespaces", namespace)
            if "deletionTimestamp" in found["metadata"]:
                message = f'{kind.plural} "{metadata.get("name")}" is forbidden: unable to create new content in namespace {namespace} because it is being terminated'
                raise Refusal(403, "Forbidden", message)
        schemas.judge(kind, thing)
        made = self.store.create(kind, thing, dry)
        if dry:
            return made
        if kind.plural == "customresourcedefinitions":
            for custom in of_definition(made):
                self.store.kinds.add(custom)
            yes = [{"type": word, "status": "True"} for word in ("NamesAccepted", "Established")]
            made = self.store.touch(kind, "", metadata["name"], status={"conditions": yes}) or made
        if kind.plural == "namespaces":
            account = self.store.kinds.named("serviceaccounts")
            default = {"name": "default", "namespace": metadata["name"]}
            self.store.create(account, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": default})
        return made

    async def _patch(self, request: web.Request, place: Place, dry: bool) -> web.StreamResponse:
        kind = place.kind
        key = self.store.key(kind, place.namespace, place.name)
        old = self.store.things.get(key)
        how = request.content_type
        if how.startswith("application/apply-patch"):
            thing = await self.body(request)
            self._complete(place, thing)
            manager = request.query.get("fieldManager")
            if not manager:
                raise bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            if old is None:
                made = self.create(kind, thing, dry)
            else:
                merged = applied(old, thing, self.store.applied.get((key, manager)), kind.custom)
                schemas.judge(kind, merged)
                made = self.store.update(kind, merged, dry=dry)
            if not dry:
                self.store.applied[key, manager] = thing
            return self._reply(kind, made, 201 if old is None else 200)
        if old is None:
            raise not_found(kind.plural, place.name, kind.group)
        merged = await self.patched(request, old, kind.custom)
        self._complete(place, merged)
        schemas.judge(kind, merged)
        return self._reply(kind, self.store.update(kind, merged, dry=dry))

    async def patched(self, request: web.Request, old: Json, custom: bool) -> Json:
        """`old` after the request's patch."""
        how = request.content_type
        if how == "application/json-patch+json":
            return json_patch(old, json.loads(await request.read()))
        patch = await self.body(request)
        if how == "application/merge-patch+json":
            return dict(merge(old, patch))
        if how == "application/strategic-merge-patch+json" and not custom:
            return dict(strategic(old, patch))
        if how.startswith("application/apply-patch"):
            return applied(old, patch, None, custom)
        raise Refusal(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format: {how}",
        )

    async def _delete(self, request: web.Request, place: Place, dry: bool) -> web.StreamResponse:
        options = await self.body(request)
        for word in ("gracePeriodSeconds", "propagationPolicy"):
            if word in request.query:
                value = request.query[word]
                options.setdefault(word, int(value) if value.isdigit() else value)
        if dry:
            options["dryRun"] = ["All"]
        if place.name:
            thing = self.store.delete(place.kind, place.namespace, place.name, options)
            self._undefine(place.kind, thing)
            return self._reply(place.kind, thing)
        matches = self._filter(request, place)
        items = [thing for thing in self.store.every(place.kind, place.namespace) if matches(thing)]
        for thing in items:
            metadata = thing["metadata"]
            self.store.delete(place.kind, metadata.get("namespace", ""), metadata["name"], options)
            self._undefine(place.kind, thing)
        return tables.list_response(request, place.kind, items, str(self.store.version))

    def _undefine(self, kind: Kind, thing: Json) -> None:
        if kind.plural == "customresourcedefinitions":
            spec = thing["spec"]
            for version in of_definition(thing)[:1]:
                for each in self.store.every(version):
                    self.store.remove(version, each)
            self.store.kinds.remove(spec["group"], spec["names"]["plural"])

    async def _below(self, request: web.Request, place: Place) -> web.StreamResponse:
        known = {*place.kind.subresources, *(("finalize",) if place.kind.plural == "namespaces" else ())}
        if place.below not in known:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return await subresources.serve(self, request, place.kind, place.namespace, place.name, place.below)

    def _reply(self, kind: Kind, thing: Json, status: int = 200) -> web.Response:
        return web.json_response({**thing, "apiVersion": kind.api_version}, status=status)

    async def serve(self) -> tuple[web.AppRunner, web.Application]:
        """An application with one route: all of them."""
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        with contextlib.suppress(asyncio.CancelledError):
            await runner.setup()
        return runner, application


def by_name_only(selector: str) -> str:
    """The name in `metadata.name=x`: RBAC's resourceNames count there too."""
    for part in selector.split(","):
        if part.startswith("metadata.name="):
            return part.partition("=")[2].lstrip("=")
    return ""
