"""How do we talk to this engine? One file per engine: launch spec, probes, metric names, routes, quirks.

Never: starting or stopping anything, or deciding when to; adapters only describe.
"""
