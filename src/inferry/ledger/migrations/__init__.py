"""How the store's tables came to be: Alembic's scripts, in order. `Database.migrate` runs them."""
