"""What would happen if? Replicas that are simulated, driven by the real policies, event by event.

Never: real time, real engines, sockets. Every figure that comes out of here is of a simulation and says so.
"""
