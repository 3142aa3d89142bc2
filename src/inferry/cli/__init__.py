"""What does a person type, and who builds what from it? One file per verb, and the stack that `up` runs.

The composition root: the only place that builds concrete things from configuration.

Never: logic that a room below could own.
"""
