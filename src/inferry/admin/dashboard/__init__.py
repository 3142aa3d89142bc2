"""The dashboard: its pages, and what they are told while they are open.

Never: anything that a gateway process would have to do for it.
"""
