"""The tests. The contract suites are shipped: pytest explains their asserts, too."""

import pytest

for _suite in ("durable", "frontier", "redo", "reopening", "sinks"):
    pytest.register_assert_rewrite(f"scraper.testing.{_suite}")
