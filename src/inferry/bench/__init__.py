"""How good is it, seen from outside? Workloads, an open-loop load generator, statistics, reports.

Never: the gateway's own code, which it measures; a figure that the client itself may have spoiled without saying so.
"""
