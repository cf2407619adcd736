"""Fuzzing: whatever bytes come from the web, a disk or a hand, nothing escapes that has no name.

Each harness feeds one reader of foreign bytes: what `material` mutates are real samples, and what
grammars make is nearly right. It asserts that only the documented errors come out, and what must
hold of what is read: addresses in normal form, text that is UTF-8, sizes within limits. The short
form runs with every test; ``make fuzz`` looks for news with thousands of examples.
"""
