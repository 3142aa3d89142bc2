"""Replicas on the nodes of a Ray cluster: an actor on the node supervises the engine's process.

Never: policy. Imported only where the file asks for it, since Ray is an extra.
"""
