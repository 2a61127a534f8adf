"""The house: five packages on their floors, nothing heavy at the door, clean locks, clean words."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sim import doctor

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = [*sorted(path for name in doctor.PACKAGES for path in (ROOT / name).rglob("*.py")), ROOT / "cli.py"]
TOP_LEVEL = {
    "agents", "market", "network", "sim", "storage", "tests", "cli.py", "pyproject.toml",
    "docs", "examples", "benchmarks", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile",
    "requirements.in", "requirements.lock", "requirements-dev.in", "requirements-dev.lock",
    ".ci", ".gitignore", ".gitattributes", ".pre-commit-config.yaml",
}  # fmt: skip

HEAVY_AT_THE_DOOR = (
    "cvxpy",
    "duckdb",
    "numba",
    "pandapower",
    "pandas",
    "plotly",
    "pyarrow",
    "pyomo",
    "scipy",
    "simbench",
)
HEAVY_IN_A_MODULE = {
    "cvxpy", "duckdb", "pandapower", "pandas", "plotly", "power_grid_model", "pvlib", "pyomo", "scipy.optimize", "simbench",
}  # fmt: skip


def tracked() -> list[Path]:
    """Every file of the project that is kept; without git, every file that is not made by a tool."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    made = {".git", ".venv", "build", "dist", "runs", "__pycache__"}
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(part in made or part.endswith(("_cache", ".egg-info")) for part in path.relative_to(ROOT).parts)
    ]


def texts() -> list[tuple[str, str]]:
    """Name and text of every tracked file that is text."""
    read = []
    for path in tracked():
        try:
            read.append((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return read


def test_every_package_is_loaded_from_this_distribution():
    """The five names are everyday words; whoever else carries one is told by name."""
    assert doctor.strangers() == {}
    assert Path(importlib.import_module("cli").__file__).resolve() == ROOT / "cli.py"


def test_a_package_of_another_distribution_is_named(tmp_path, monkeypatch):
    """A market that somebody else installed is found out, with its place."""
    other = tmp_path / "market"
    other.mkdir()
    (other / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "market", raising=False)
    importlib.invalidate_caches()

    assert doctor.strangers(ROOT) == {"market": str(other.resolve() / "__init__.py")}


def test_help_loads_nothing_heavy():
    """`commonwatt --help` starts at once: no library of data, plots or solvers is loaded for it."""
    code = (
        "import sys; sys.argv = ['commonwatt', '--help']; import cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        f"print(code, *[name for name in {HEAVY_AT_THE_DOOR!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.split() == ["0"]
    assert "certify" in done.stdout


def heavy_imports(source: str) -> list[str]:
    """Heavy libraries that a module imports when it is loaded (not in a function, not for types only)."""
    found = []

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                names = []
            found.extend(heavy for heavy in HEAVY_IN_A_MODULE if any(f"{n}.".startswith(f"{heavy}.") for n in names))
            for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if not for_types and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for inner in ("body", "orelse", "finalbody"):
                    visit(getattr(node, inner, []))

    visit(ast.parse(source).body)
    return sorted(set(found))


def test_no_module_loads_a_heavy_library_before_it_is_needed():
    """Heavy libraries are imported inside the functions that need them."""
    found = {str(path.relative_to(ROOT)): heavy_imports(path.read_text(encoding="utf-8")) for path in MODULES}

    assert {name: heavy for name, heavy in found.items() if heavy} == {}


def test_a_heavy_import_is_seen():
    """The check above would find one, and does not mistake a lazy or a type's import for one."""
    assert heavy_imports("from scipy import optimize\nimport pandas as pd") == ["pandas", "scipy.optimize"]
    assert heavy_imports("if TYPE_CHECKING:\n    import pandas\ndef f():\n    import cvxpy") == []


def test_the_top_level_is_as_promised():
    """The five packages, tests and cli.py stand at the top, and nothing unforeseen beside them."""
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}

    assert top <= TOP_LEVEL
    assert top >= {"agents", "market", "network", "sim", "storage", "tests", "cli.py", "pyproject.toml"}
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_module_says_what_it_is_for():
    """A module opens with a docstring; a package says its sign and what it may import."""
    silent = [
        str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    floors = {name: importlib.import_module(name).__doc__ or "" for name in doctor.PACKAGES}

    assert silent == []
    assert [name for name, text in floors.items() if "Sign\n" not in text or "May import\n" not in text] == []


def test_imports_go_down_only():
    """The floors hold: sim, agents, storage, then network and market, which are strangers."""
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout


def test_an_import_against_the_floors_is_refused(tmp_path):
    """A network that knows a market breaks the contract, by name."""
    for name in doctor.PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "network" / "wrong.py").write_text("import market\n")

    done = lint_imports(tmp_path)

    assert done.returncode == 1
    assert "network.wrong -> market" in done.stdout


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of the floors on the packages in a folder."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


HOSTS = tuple(
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("pypi", "python"))
)
PLACES = re.compile(
    r"(?<![\w.<>{$*-])/(?:" + "|".join(("work", "root", "home", "opt", "tmp", "farm", "Users")) + r")/\w"
)
WORDS = re.compile(
    "|".join(("language" + " model", "AI " + "assistant", "Chat" + "GPT", "Co" + "pilot")), re.IGNORECASE
)


def test_no_file_names_a_registry():
    """Whoever installs chooses the index: no tracked file says where packages come from."""
    assert [(name, host) for name, text in texts() for host in HOSTS if host in text] == []


def test_no_file_names_a_place_on_somebodys_machine():
    """No path of a machine, and no word of how it was built."""
    found = [(name, hit.group()) for name, text in texts() for hit in (PLACES.search(text), WORDS.search(text)) if hit]

    assert found == []
    assert PLACES.search("see /ho" + "me/anna/x")
    assert not PLACES.search("a/home/b, <RUN>/tmp/x")


def test_every_link_in_the_texts_leads_somewhere():
    """A relative link of a Markdown page names a file that is there."""
    pages = [path for path in tracked() if path.suffix == ".md"]
    dead = [
        (page.relative_to(ROOT).as_posix(), target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_every_page_is_named_by_the_index():
    """docs/index.md names every page of docs/."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {
        path.relative_to(ROOT / "docs").as_posix()
        for path in tracked()
        if path.is_relative_to(ROOT / "docs") and path.suffix == ".md"
    }

    assert {page for page in pages - {"index.md"} if f"({page})" not in index} == set()


def locked(name: str) -> dict[str, set[str]]:
    """Versions of every package in a lock; a package may have one per version of Python."""
    versions: dict[str, set[str]] = {}
    for line in re.findall(r"^([a-z0-9][\w.-]*)==([\w.+!]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE):
        versions.setdefault(line[0], set()).add(line[1])
    return versions


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_hashes_and_no_address(name):
    """Every entry carries hashes; no address, no option, no second kind of lock."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(entries) > 40
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert (
        re.findall(
            r"://|^\s*-[-\w]|find-links|index-url", re.sub(r"--hash=sha256:[0-9a-f]{64}", "", text), re.MULTILINE
        )
        == []
    )
    assert not (ROOT / "uv.lock").exists()


def test_the_locks_hold_what_the_project_asks_for():
    """Every dependency of pyproject.toml is locked, and development runs on the same versions as the users."""
    from packaging.requirements import Requirement

    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    asked = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    unmet = [
        str(requirement)
        for requirement in asked
        if not all(requirement.specifier.contains(v) for v in runtime.get(requirement.name.replace(".", "-"), {"0"}))
    ]

    assert unmet == []
    assert {name: versions for name, versions in runtime.items() if dev.get(name) != versions} == {}


def test_the_version_is_the_same_everywhere():
    """The citation and the project say the same version."""
    assert f"\nversion: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_checks_of_a_change_can_be_read():
    """`.ci/run` is a script that bash can read and the system may execute."""
    script = ROOT / ".ci" / "run"

    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert script.stat().st_mode & 0o111


def test_the_wheel_carries_the_scenarios_and_templates(tmp_path):
    """What is installed is complete: every file of a package that is not code travels in the wheel."""
    import zipfile

    copy = tmp_path / "copy"
    for path in tracked():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, check=True)

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        carried = set(wheel.namelist())
    promised = {p.relative_to(ROOT).as_posix() for p in tracked() if p.relative_to(ROOT).parts[0] in doctor.PACKAGES}
    assert promised - carried == set()
    assert {name.split("/")[0] for name in carried if "dist-info" not in name} == {*doctor.PACKAGES, "cli.py"}
