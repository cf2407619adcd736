"""The contract suite is shipped, not a test module: tell pytest to explain its asserts too."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("scraper.testing.frontier")
