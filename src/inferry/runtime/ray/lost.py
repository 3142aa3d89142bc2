"""How an agent can be unreachable, in our own words: whoever keeps replicas need not know Ray's."""

from __future__ import annotations


class AgentAway(Exception):
    """It can't be reached now; it may be there again soon."""


class AgentDied(Exception):
    """It is gone: its process has ended, or Ray has given its node up."""
