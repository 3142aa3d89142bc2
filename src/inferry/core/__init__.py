"""Which nouns do two rooms need? Requests, outcomes, replicas, errors, the clock, the deployment file.

Never: sockets, processes, engines' own names, or anything that only one room uses.
"""
