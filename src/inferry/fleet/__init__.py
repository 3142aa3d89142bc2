"""What should be running? Owns each replica's state; starts, probes, restarts and drains.

Never: reading a user's request, or knowing how a process is started.
"""
