"""Names that other programs have as well: packages beside a user's files, other distributions, another `ablate`."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from studies.maintenance import environment

ROOT = Path(__file__).parents[3]


def findings():
    return {check.finding: check.level for check in environment.check_names()}


def test_nothing_is_told_where_the_names_are_ours():
    assert findings() == {}


def test_a_folder_that_python_finds_first_is_a_warning(tmp_path, monkeypatch):
    package = tmp_path / "reports"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    ((finding, level),) = findings().items()
    assert level == "warning"
    assert finding.startswith(f"Python finds another package 'reports', {package}, before this program's, {ROOT}")


def test_such_a_folder_is_not_imported_in_place_of_ours(tmp_path):
    """As a notebook in that folder does, whose folder comes first on the import path."""
    package = tmp_path / "reports"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import ablations, reports; print(reports.__file__)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(ROOT / "reports/__init__.py")


def test_another_distribution_with_a_package_of_ours_is_an_error(monkeypatch):
    owners = {"reports": ["ablation-studies", "report-tools"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    ((finding, level),) = findings().items()
    assert level == "error"
    assert finding == "report-tools also installs a package 'reports': it may have replaced files of this one"


def test_another_program_of_our_commands_name_is_a_warning(monkeypatch):
    commands = [SimpleNamespace(dist=SimpleNamespace(name=name)) for name in ("ablation-studies", "ablate")]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: commands)
    ((finding, level),) = findings().items()
    assert level == "warning"
    assert finding == "ablate also installs a command `ablate`: which one runs is that installed last"
