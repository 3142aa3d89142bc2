"""A deployment file as a Helm chart: the Kubernetes objects, with values in place of what differs between clusters.

Never: an object of its own that render/kubernetes also has; or a secret's value in values.yaml.
"""
