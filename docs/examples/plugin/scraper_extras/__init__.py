"""A stage, a sink and a frontier, each found by its entry point in pyproject.toml."""
