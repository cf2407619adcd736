"""Loopback servers that tests crawl. Each keeps a log of what it saw: the evidence."""
