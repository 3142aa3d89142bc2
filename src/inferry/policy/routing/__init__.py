"""Which replica serves this request? Chooses and reserves in one step, so two requests never race.

`Balancer` holds one Slot per replica and asks the deployment's policy, one file each. There is no `await`
anywhere, and so nothing in between. How to add a policy: docs/map.md.
"""

from inferry.core.routing_settings import PolicyName, Routing
from inferry.policy.routing.balancer import Balancer
from inferry.policy.routing.facts import NO_FACTS, NOTHING_SEEN, RouteFacts, Seen
from inferry.policy.routing.policy import Fact, Policy, Rng
from inferry.policy.routing.slot import NoReplica, Slot

__all__ = [
    "NOTHING_SEEN",
    "NO_FACTS",
    "Balancer",
    "Fact",
    "NoReplica",
    "Policy",
    "PolicyName",
    "Rng",
    "RouteFacts",
    "Routing",
    "Seen",
    "Slot",
]
