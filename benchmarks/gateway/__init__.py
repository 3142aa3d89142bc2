"""Inferry beside nginx, two Rust routers and LiteLLM, on one load: `python -m benchmarks.gateway --help`."""
