"""A deployment file as Kubernetes objects: plain data with reasons, one file per concern.

Never: talking to a cluster, or writing a secret's value.
"""
