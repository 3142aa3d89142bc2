"""Programs that run in an engine's own environment and ask its own argument parser."""
