"""What the status tells of names over several deployments."""

from __future__ import annotations

from inferry.admin.names_view import view_names
from inferry.core.public_names import PublicName
from inferry.gateway.snapshot import Snapshot

NAMES = {
    "chat": PublicName.model_validate(
        {
            "split": [{"deployment": "v1", "weight": 2}, {"deployment": "v2", "weight": 1}],
            "sticky": "user",
            "fallbacks": ["v1", "small"],
            "shadow": [{"deployment": "new", "percent": 5}],
        }
    ),
    "other": PublicName.model_validate({"split": [{"deployment": "v1"}]}),
}


def test_each_deployment_stands_once_with_its_share_and_counts() -> None:
    """Of the split, then fallbacks that are not in it, then shadows; counts of another name are not among them."""
    snapshot = Snapshot()
    for deployment, count in (("v1", 5), ("v2", 1), ("small", 2)):
        snapshot.metrics.named["chat", deployment] = count
    snapshot.metrics.named["other", "v1"] = 90
    snapshot.metrics.fallbacks = {
        ("chat", "v2", "v1"): 3,
        ("chat", "v2", "small"): 1,
        ("other", "v2", "v1"): 7,
    }
    chat, other = view_names(NAMES, snapshot)
    assert (chat.name, chat.sticky) == ("chat", "user")
    assert [(each.deployment, each.role, each.percent, each.requests, each.left) for each in chat.places] == [
        ("v1", "split", 66.67, 5, 0),
        ("v2", "split", 33.33, 1, 4),
        ("small", "fallback", None, 2, 0),
        ("new", "shadow", 5.0, None, None),
    ]
    assert [(each.deployment, each.percent, each.requests) for each in other.places] == [("v1", 100.0, 90)]
