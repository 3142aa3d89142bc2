"""Will it fit, how fast, what does it cost, which engine? Predicts a deployment from facts about models, devices and engines.

Never: I/O beyond reading the facts that ship with it, a clock, or talking to an engine.
"""
