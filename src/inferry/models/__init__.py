"""Where do weights come from? Fetches models from their sources, checks them, keeps them in one store.

Never: reading what is inside a model, or running one.
"""
