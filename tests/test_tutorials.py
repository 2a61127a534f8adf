"""The tutorials do what they say: every command in them is run, in order, in a fresh folder."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))


def commands(page: Path) -> list[tuple[list[str], int]]:
    """The commands of a page with the exit codes they shall have."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("$ "):
            command, _, remark = line[2:].partition("   # ends with ")
            found.append((shlex.split(command), int(remark or 0)))
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", TUTORIALS, ids=[page.stem for page in TUTORIALS])
def test_every_command_of_a_tutorial_ends_as_it_says(page: Path, tmp_path: Path, cache: Path) -> None:
    """Run in order in a folder that holds the examples; each ends with the code the page names, without a traceback."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    env = {**os.environ, "COMMONWATT_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    asked = commands(page)

    assert len(asked) >= 4
    for command, code in asked:
        assert command[0] == "commonwatt"
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "cli.py"), *command[1:]],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
