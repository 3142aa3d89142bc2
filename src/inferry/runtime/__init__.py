"""Where do replicas live? Starts, stops and lists engine processes, and keeps what they print.

Never: deciding when to start or stop, or knowing any engine's flags.
"""
