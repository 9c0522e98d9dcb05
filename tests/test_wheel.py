"""The wheel, outside of the clone: built without a warning, unpacked into an empty folder, used there."""

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PACKAGES = ("ablations", "lightning_modules", "reports", "studies")


def source_files():
    """What git tracks of the four packages."""
    listed = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, check=True)
    return set(filter(None, listed.stdout.decode().split("\0")))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of what git tracks, built as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"
    clone.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes((ROOT / name).read_bytes())
    code = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=clone, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    lines = (ended.stdout + ended.stderr).lower().splitlines()
    assert [line for line in lines if "warning" in line or "deprecat" in line] == []
    return folder / ended.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == source_files()
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(site), "ABLATE_RUNS": "runs"}
        command = [sys.executable, *arguments]
        ended = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def ablate(*arguments):
        return run("-m", "studies.cli", *arguments)

    assert run("-c", "import studies; print(studies.__file__)").startswith(str(site))
    assert "depth_beyond" in ablate("list")
    assert "compdef _ablate ablate" in ablate("completion", "zsh")
    ablate("new", "first_try", "--module")
    assert json.loads(ablate("check", "./first_try.py", "--json"))["passed"]
    (work / "results.csv").write_text(
        "arm,seed,accuracy\n" + "".join(f"{arm},{seed},{90 + seed / 10 + gain}\n" for arm, gain in
        (("A", 0), ("B", 1)) for seed in range(4)), encoding="utf-8",
    )  # fmt: skip
    ablate("judge", "results.csv", "--baseline", "A", "-o", "judged")  # by the page's templates
    assert "<style>" in next((work / "judged").glob("*.html")).read_text(encoding="utf-8")


def test_the_lock_admits_every_dependency_and_names_no_address():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(not item.url and len(item.specifier) == 1 for item in pinned)
    assert not any("/" in line or "--" in line for line in lines if not line.startswith("#"))
    by_name = {item.name.lower().replace("_", "-"): item for item in pinned}
    assert len(by_name) >= 100
    for text in metadata.requires("ablation-studies") or ():
        requirement = Requirement(text)
        if requirement.name == "ablation-studies":  # an extra that is the sum of others
            continue
        (pin,) = by_name[requirement.name.lower().replace("_", "-")].specifier
        assert requirement.specifier.contains(Version(pin.version), prereleases=True), text
