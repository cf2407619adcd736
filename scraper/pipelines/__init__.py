"""Stages of the item chain: sinks that deliver exactly once, and the chain itself."""
