"""How does a request enter and leave? The hot path: decode, route, relay, end in one outcome.

Never: starting engines, an HTTP client library, a web framework, or a decision that a policy should take.
"""
