"""Inferry takes a large language model from a laptop to a fleet.

This package root holds the version and nothing else; docs/map.md shows the rooms.
"""

__version__ = "0.1.0"
