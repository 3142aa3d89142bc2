"""What may a request ask and an answer say? Compiled rules, exact on streams.

Never: chooses a replica, writes to a client, keeps a text longer than a pattern could still need.
"""
