"""What benchmarks found, said below pytest's own table."""

from __future__ import annotations

import pytest

LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def told(request):
    """Keep a line for the end."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter, config):
    """Say what was found."""
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)
