"""The version, in a module that costs nothing to import. `pyproject.toml` says the same."""

__version__ = "0.1.0"
