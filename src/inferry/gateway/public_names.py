"""All names that clients may send as `model`, and the deployments that they lead to.

A deployment's own names lead to it alone. A name of `names:` has several behind it: whose turn it is, policy/split.py
says. Turns are counted in each gateway process; who is sticky gets the same deployment from all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

import msgspec

from inferry.core.api_key import ApiKey
from inferry.core.errors import UnknownModel
from inferry.core.public_names import PublicName, Shadow
from inferry.core.request import InferenceRequest, Route
from inferry.core.suggest import did_you_mean
from inferry.gateway.account import Account
from inferry.gateway.course import Course
from inferry.gateway.edge import Arrival
from inferry.gateway.served import ServedDeployment
from inferry.gateway.shadow_target import ShadowTarget
from inferry.ledger.keyring import require_deployment
from inferry.policy.split import Shares, choose_sticky

CALLER_CHARS_MAX = 1024
"""Of what tells sticky callers apart; the rest of a longer one does not count."""

SendCopy = Callable[[InferenceRequest, Arrival, ShadowTarget], None]


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _User(msgspec.Struct):
    user: str | None = None
    safety_identifier: str | None = None
    metadata: _Metadata | None = None


_decode_user = msgspec.json.Decoder(_User).decode


def unknown_model(model: str, names: Sequence[str]) -> UnknownModel:
    """The error that says which names there are."""
    shown = model if len(model) <= 100 else f"{model[:97]}..."
    near = did_you_mean(model, names)
    known = "" if near.startswith(" Known") or not names else f" Known: {', '.join(sorted(names))}."
    return UnknownModel(f"The model '{shown}' does not exist here.{near}{known}", param="model")


def user_of(body: bytes) -> str | None:
    """Whom a request names as its user: OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`."""
    try:
        found = _decode_user(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # what it is, is the engine's to say
        return None
    metadata = found.metadata
    return found.user or found.safety_identifier or (None if metadata is None else metadata.user_id)


class SplitName:
    """One name of `names:`, live."""

    def __init__(
        self,
        name: str,
        spec: PublicName,
        deployments: Mapping[str, ServedDeployment],
        before: SplitName | None = None,
    ) -> None:
        """`before`: what the name was until now; its copies that are under way stay counted."""
        self.name = name
        self.spec = spec
        self.members = {each: deployments[each] for each in spec.members}
        targets = {} if before is None else {each.deployment: each for each in before.shadows}
        self.shadows: Sequence[ShadowTarget] = [
            _target(each, deployments[each.deployment], targets) for each in spec.shadow
        ]
        self._weights = {each.deployment: each.weight for each in spec.split}
        self.takers = [each for name, each in self.members.items() if self._weights[name]]
        """Those whose turn comes."""
        self._fallbacks = [deployments[each] for each in spec.fallbacks]
        self._header = None if spec.sticky_header is None else spec.sticky_header.encode("ascii")
        self._shares: dict[tuple[str, ...], Shares] = {}
        """By those that take turns."""
        self._by_path: dict[str, tuple[Mapping[str, int], Shares]] = {}

    def still_is(self, spec: PublicName, deployments: Mapping[str, ServedDeployment]) -> bool:
        """Whether it can stay as it is, with its turns."""
        return self.spec == spec and all(
            deployments.get(each.name) is each
            for each in (
                *self.members.values(),
                *self._fallbacks,
                *(shadow.deployment for shadow in self.shadows),
            )
        )

    def look_again(self) -> None:
        """The deployments may have other routes now; turns go on."""
        self._by_path.clear()

    def allows(self, key: ApiKey | None) -> bool:
        """A key that names its deployments must name this name, or every member: all of them may answer it."""
        if key is None or key.deployments is None:
            return True
        return self.name in key.deployments or key.deployments.issuperset(self.members)

    def somebody(self) -> ServedDeployment:
        """A member, to say what the name is like: the first that takes requests now."""
        return next((each for each in self.members.values() if each.balancer.usable()), self.first)

    @property
    def first(self) -> ServedDeployment:
        return self.takers[0]

    def choose(self, account: Account) -> ServedDeployment:
        """Whose turn it is, or who is the caller's; raises UnsupportedRoute where nobody has the route."""
        request = account.request
        assert request is not None
        path = request.route.path
        found = self._by_path.get(path)
        if found is None:
            found = self._by_path[path] = self._able(path)
        weights, shares = found
        if not weights:
            self.first.require_route(request.route, request.model)
        caller = self._caller(account, request) if len(weights) > 1 else None
        if caller is None:
            return self.members[shares.next()]
        return self.members[choose_sticky(weights, self.name, caller[:CALLER_CHARS_MAX])]

    def _able(self, path: str) -> tuple[Mapping[str, int], Shares]:
        """Members that have the route and a weight, and their turns: not every engine has every route."""
        weights = {
            name: weight
            for name, weight in self._weights.items()
            if weight and path in self.members[name].routes
        }
        able = tuple(weights)
        if able not in self._shares:
            self._shares[able] = Shares(weights or self._weights)
        return weights, self._shares[able]

    def _caller(self, account: Account, request: InferenceRequest) -> str | None:
        """What tells this caller from others; None: it has none of it, or nobody asks."""
        match self.spec.sticky:
            case "none":
                return None
            case "user":
                return user_of(request.body) or None
            case "key":
                return None if account.caller is None else account.caller.key_id
        assert self._header is not None
        value = account.arrival.kept.get(self._header, b"").strip()
        return value.decode("latin-1") or None

    def after(self, chosen: ServedDeployment, key: ApiKey | None, route: Route) -> Sequence[ServedDeployment]:
        """The fallbacks that this key may call, without the chosen one."""
        return [each for each in self._fallbacks if each is not chosen and self._may(each, key, route)]

    def peers(self, chosen: ServedDeployment, key: ApiKey | None, route: Route) -> Sequence[ServedDeployment]:
        """Those that can go on with an answer of the chosen one."""
        if not self.spec.same_model:
            return ()
        everybody = dict.fromkeys((*self.members.values(), *self._fallbacks))
        return [each for each in everybody if each is not chosen and self._may(each, key, route)]

    def _may(self, deployment: ServedDeployment, key: ApiKey | None, route: Route) -> bool:
        """Whether it has the route, and the key may call it."""
        allowed = None if key is None else key.deployments
        is_free = allowed is None or self.name in allowed or deployment.name in allowed
        return is_free and route.path in deployment.routes


def _target(
    spec: Shadow, deployment: ServedDeployment, before: Mapping[ServedDeployment, ShadowTarget]
) -> ShadowTarget:
    target = before.get(deployment)
    if target is None:
        return ShadowTarget(spec, deployment)
    target.configure(spec)
    return target


class PublicNames:
    """Owned by the gateway's event loop; configured anew with each change of the file."""

    def __init__(self, send_copy: SendCopy) -> None:
        """`send_copy`: called for each request that a shadow shall see."""
        self._send_copy = send_copy
        self._deployments: dict[str, ServedDeployment] = {}
        self.splits: dict[str, SplitName] = {}
        """Those that have several deployments behind them."""
        self.all: Sequence[str] = ()

    def configure(self, deployments: Mapping[str, ServedDeployment], names: Mapping[str, PublicName]) -> None:
        """From now on these and no others."""
        self._deployments = {
            public: each
            for each in deployments.values()
            for public in (each.name, *each.spec.aliases, *each.lora_models)
        }
        before = self.splits
        self.splits = {}
        for name, spec in names.items():
            split = before.get(name)
            if split is None or not split.still_is(spec, deployments):
                split = SplitName(name, spec, deployments, split)
            split.look_again()
            self.splits[name] = split
        self.all = (*self.splits, *self._deployments)

    @property
    def kept_headers(self) -> frozenset[bytes]:
        """Headers by which callers are told apart, in lower case."""
        headers = (each.spec.sticky_header for each in self.splits.values())
        return frozenset(name.encode("ascii") for name in headers if name is not None)

    def own(self, name: str) -> ServedDeployment | None:
        """The deployment that has this name for itself."""
        return self._deployments.get(name)

    def main(self, name: str) -> str:
        """The name of whatever has this name or alias."""
        return name if name in self.splits else self._deployments[name].name

    def routes(self, name: str) -> Set[str]:
        """Paths that somebody behind this name answers."""
        if name not in self.splits:
            return self._deployments[name].routes
        return {path for each in self.splits[name].takers for path in each.routes}

    def is_simulated(self, name: str) -> bool:
        """Whether some of what it answers may be made up."""
        found = self.splits[name].takers if name in self.splits else (self._deployments[name],)
        return any(each.spec.simulated for each in found)

    def visible_to(self, key: ApiKey | None) -> Iterable[str]:
        """The names that this key may know of; None: everybody may know all. Costs nothing until read."""
        if key is None or key.deployments is None:
            return self.all
        return self._allowed_names(key, key.deployments)

    def _allowed_names(self, key: ApiKey, allowed: frozenset[str]) -> Iterator[str]:
        yield from (name for name, split in self.splits.items() if split.allows(key))
        yield from (name for name, each in self._deployments.items() if each.name in allowed)

    def lookup(self, model: str, key: ApiKey | None) -> ServedDeployment:
        """The deployment that answers to `model`, or one of several that do; raises UnknownModel that names those
        that `key` may call."""
        deployment = self._deployments.get(model)
        if deployment is not None:
            return deployment
        split = self.splits.get(model)
        if split is None:
            raise unknown_model(model, list(self.visible_to(key)))
        return split.somebody()

    def permitted(self, model: str, key: ApiKey | None) -> ServedDeployment:
        """As `lookup`; raises DeploymentNotAllowed where `key` may not call it."""
        deployment = self.lookup(model, key)
        self._require(model, key, deployment)
        return deployment

    def _require(self, model: str, key: ApiKey | None, deployment: ServedDeployment) -> None:
        if key is None or key.deployments is None:
            return
        if model in self._deployments:
            require_deployment(key, deployment.name)
        elif not self.splits[model].allows(key):
            require_deployment(key, model)

    def destination(self, account: Account) -> ServedDeployment:
        """The deployment that shall serve this request, whose turn is taken by that; sets its course where there are
        several. Raises UnknownModel, DeploymentNotAllowed and UnsupportedRoute."""
        request, caller = account.request, account.caller
        assert request is not None
        assert caller is not None
        deployment = account.deployment = self.lookup(request.model, caller.key)
        self._require(request.model, caller.key, deployment)
        split = self.splits.get(request.model)
        if split is None:
            deployment.require_route(account.route, request.model)
            return deployment
        deployment = account.deployment = split.choose(account)
        fallbacks = split.after(deployment, caller.key, account.route)
        account.course = Course(
            split.name,
            fallbacks,
            self._send_copies if split.shadows else None,
            split.peers(deployment, caller.key, account.route),
        )
        return deployment

    def _send_copies(self, request: InferenceRequest, arrival: Arrival) -> None:
        split = self.splits.get(request.model)  # it may be gone from the file by now
        for target in () if split is None else split.shadows:
            if request.route.path in target.deployment.routes and target.is_next():
                self._send_copy(request, arrival, target)
