"""How long a person waits for `commonwatt --help`."""

from __future__ import annotations

import subprocess
import sys


def test_help(benchmark):
    """The command line shows its commands."""
    code = "import sys; sys.argv = ['commonwatt', '--help']; import cli; cli.main()"

    done = benchmark.pedantic(
        subprocess.run, args=([sys.executable, "-c", code],), kwargs={"capture_output": True}, rounds=5, warmup_rounds=1
    )

    assert done.returncode == 0
    assert b"certify" in done.stdout
