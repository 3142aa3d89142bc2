"""From a credential to the caller: who it is, and which limits stand over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferry.core.api_key import ANONYMOUS, SHADOW, ApiKey, Caller
from inferry.core.clock import Clock
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.gateway_settings import Tenant
from inferry.core.limits import Limits
from inferry.gateway.edge import Arrival
from inferry.ledger.keyring import KeyRing, credential_of, require_scope

_NO_TENANT = Tenant()
_NO_LIMITS = Limits()


class Callers:
    """Owned by the gateway's event loop; keys and settings may be replaced at any time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ring = KeyRing()
        self._known: dict[str, Caller] = {}
        self.asks_keys = False
        self._tenants: Mapping[str, Tenant] = {}
        self._key_limits = _NO_LIMITS
        self._anybody = Caller(ANONYMOUS)
        self.shadow = Caller(SHADOW, priority="low")
        """Who asks by a copy of somebody's request."""

    def configure(self, settings: GatewaySettings, tenants: Mapping[str, Tenant]) -> None:
        self.asks_keys = settings.auth == "keys"
        self._tenants = tenants
        self._key_limits = settings.key_limits
        self._known = {}
        self._anybody = Caller(ANONYMOUS, tenant_limits=self._tenant(ANONYMOUS).limits)
        self.shadow = Caller(SHADOW, tenant_limits=self._tenant(SHADOW).limits, priority="low")

    def replace_keys(self, keys: Iterable[ApiKey]) -> None:
        """From now on these keys, and no others, are good."""
        self._ring.replace(keys)
        self._known = {}

    def change_keys(self, put: Iterable[ApiKey], gone: Iterable[str]) -> None:
        """From now on these are good too, as they are now, and the ones with the prefixes `gone` no more."""
        self._ring.change(put, gone)
        self._known = {}

    def weight(self, tenant: str) -> float:
        """The tenant's share of a busy deployment, against others'."""
        return self._tenant(tenant).weight

    def find(self, arrival: Arrival) -> Caller:
        """Who sent this request for inference; raises Rejected (401, 403) where that is nobody who may."""
        if not self.asks_keys:
            return self._anybody
        key = self.key_of(arrival)
        caller = self._known.get(key.id)
        if caller is None:
            require_scope(key, "inference")
            own = key.limits if key.limits != _NO_LIMITS else self._key_limits
            caller = Caller(key.tenant, key, own, self._tenant(key.tenant).limits, key.priority)
            self._known[key.id] = caller
        return caller

    def key_of(self, arrival: Arrival) -> ApiKey:
        """The key that a request was sent with, whatever its scopes."""
        credential = credential_of(arrival.authorization, arrival.x_api_key)
        return self._ring.find(credential, self._clock.wall_s())

    def _tenant(self, name: str) -> Tenant:
        return self._tenants.get(name, _NO_TENANT)
