"""The policy that a deployment's `routing:` asks for."""

from __future__ import annotations

from inferry.core.routing_settings import Routing
from inferry.policy.routing.gpu_aware import GpuAware
from inferry.policy.routing.least_connections import LeastConnections
from inferry.policy.routing.peak_ewma import PeakEwma
from inferry.policy.routing.policy import Policy, Rng
from inferry.policy.routing.power_of_two import PowerOfTwo
from inferry.policy.routing.prefix_aware import PrefixAware
from inferry.policy.routing.round_robin import RoundRobin
from inferry.policy.routing.session import Session
from inferry.policy.routing.token_load import TokenLoad
from inferry.policy.routing.weighted import Weighted


def make_policy(routing: Routing, rng: Rng) -> Policy:
    """A new one, that knows nothing yet."""
    match routing.policy:
        case "round_robin":
            return RoundRobin()
        case "least_connections":
            return LeastConnections()
        case "weighted":
            return Weighted()
        case "power_of_two":
            return PowerOfTwo(rng)
        case "peak_ewma":
            return PeakEwma(rng, routing.measure, routing.decay_s)
        case "gpu_aware":
            return GpuAware(rng, routing.half_life_s)
        case "token_load":
            return TokenLoad(rng)
        case "session":
            return Session(routing.load_bound)
        case "prefix_aware":
            return PrefixAware(routing.cache_tokens)
