"""How is it operated? The control API that the CLI talks to.

Never: inference traffic.
"""
