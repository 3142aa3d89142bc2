"""How does it ship? Turns a deployment file into what other tools run: containers, Kubernetes, proxies, monitoring.

Never: running any of those tools, reading or writing a file, or asking a clock. The same file gives the same text.
"""
