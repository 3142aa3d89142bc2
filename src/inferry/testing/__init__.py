"""What can one test against without a model? The simulated engine over HTTP, and a clock moved by hand.

Shipped with the product. Never imported by it: engines/simulated.py starts it as a program.
"""
