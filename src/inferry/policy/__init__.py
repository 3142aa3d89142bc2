"""What should happen next? Pure deciders: plain data and `now` in, a decision with its reason out.

Never: a clock, a socket, a log line, a coroutine.
"""
