"""One file per step, never changed once released: stores have been through it."""
