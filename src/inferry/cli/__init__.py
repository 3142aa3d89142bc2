"""The composition root: the only place that builds concrete things from configuration. One file per verb.

Never: logic that a room below could own.
"""
