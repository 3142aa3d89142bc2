"""What can one test against without a model? The simulated engine over HTTP, and a clock moved by hand.

Never: imported by the product. It is shipped with it, and engines/simulated.py starts it as a program.
"""
