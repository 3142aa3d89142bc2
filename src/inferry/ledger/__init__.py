"""Who may call, what happened, and what did it cost? Keys, the journal of outcomes, the store, prices, usage.

Never: deciding whether a request may enter (policy), or touching the event loop's thread with a database.
"""
