"""Where do replicas live? As pods of a Kubernetes cluster: one Deployment object for each of our deployments.

Never: deciding how many replicas there are to be, or asking the API server for more than `permissions.RULES` allows.
"""
