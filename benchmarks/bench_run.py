"""How fast a village of about a hundred homes is simulated, with how much memory, and where the time goes.

The run is what a person starts, `commonwatt demo`, in a process of its own; its memory is looked at from outside, with
that of the processes it starts (memory that two of them share counts twice).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest

DAYS = 2
LOOK_EVERY_S = 0.02


def watched(command: list[str]) -> tuple[float, float, dict]:
    """Run a command that prints JSON; return wall time [s], peak memory [MB] and what it printed."""
    began = time.perf_counter()
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        family = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, sum(one.memory_info().rss for one in (family, *family.children(recursive=True))))
            except psutil.Error:  # one of them has ended meanwhile
                continue
            time.sleep(LOOK_EVERY_S)
        wall_s = time.perf_counter() - began
        said = process.stdout.read()
    assert process.returncode == 0
    return wall_s, peak / 1e6, json.loads(said)


@pytest.mark.parametrize("state", ["first", "warm"])
def test_run(benchmark, state, tmp_path, monkeypatch, told):
    """A first run compiles kernels, prepares data and simulates the reference; a warm one finds all of that in the caches."""
    if state == "first":
        monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "cli", "demo", "--json", "--force", "--days", str(DAYS), "--out", str(out)]

    wall_s, peak_mb, manifest = benchmark.pedantic(
        watched, args=(command,), rounds=1, warmup_rounds=int(state == "warm")
    )

    parts = {name: seconds for name, seconds in manifest["seconds"].items() if isinstance(seconds, (int, float))}
    benchmark.extra_info |= {"days": DAYS, "homes": manifest["homes"], "peak_mb": peak_mb, "seconds": parts}
    told(
        f"{state}: {manifest['homes']} homes, {DAYS} days: {DAYS / wall_s:.2f} simulated days/s, peak {peak_mb:.0f} MB, {wall_s:.1f} s, of which"
    )
    for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
        told(f"  {name:<24}{seconds:7.2f} s {100 * seconds / wall_s:5.1f} %")
    told(f"  {'everything else':<24}{wall_s - sum(parts.values()):7.2f} s")

    assert manifest["outcome"] == "ok"
    assert 0 < sum(parts.values()) < wall_s
