"""Frontiers: what is to do and what was seen. `memory` forgets, `sqlite` survives its process."""
