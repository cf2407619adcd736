"""Whole crawls: the command line in a process of its own, against servers that keep a log."""
