"""How many replicas? One decider per deployment; the fleet asks it in production, the simulator in simulations.

Never: a clock, a metric's name in an engine's words, the start or end of a replica.
"""
