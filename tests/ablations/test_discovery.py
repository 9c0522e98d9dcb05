"""Users' files beside folders with the names of this project's packages, and single values without a comma."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ablations
from ablations import InvalidAblation, UnknownAblation
from lightning_modules.specs.catalogue import NETWORKS, find_network
from lightning_modules.specs.errors import InvalidValue, UnknownPath
from studies.design.declare import declare

ROOT = Path(ablations.__file__).parent.parent
READ = "import ablations; ablations.load('./mine.py'); import {name}; print({name}.__file__)"


@pytest.mark.parametrize("name", ["reports", "studies", "lightning_modules"])
def test_the_projects_packages_win_over_folders_beside_a_users_file(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (tmp_path / "mine.py").write_text((ROOT / "ablations/lrn.py").read_text())
    # A console script: the current folder is not on its path until the file is loaded.
    script = f"import sys; sys.path[0] = {str(ROOT)!r}; {READ.format(name=name)}"
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(ROOT / name / "__init__.py")


def test_two_files_of_one_name_in_two_folders_are_loaded_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = (ROOT / "ablations/lrn.py").read_text()
    files = []
    for number, folder in enumerate(("one", "other")):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "planted_twin.py")
        files[-1].write_text(text.replace('"""', f'"""{number}: ', 1))
    for file, number in ((files[0], "0"), (files[1], "1"), (files[0], "0")):
        assert ablations.load(str(file)).question.startswith(number)
    del sys.modules["planted_twin"]


def test_a_file_may_be_given_as_a_path_object(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "planted_path.py"
    file.write_text((ROOT / "ablations/lrn.py").read_text())
    assert ablations.load(file) == ablations.load(str(file))
    study = declare(file, seeds=1)
    assert (study.name, study.import_paths) == ("planted_path", (str(tmp_path),))
    del sys.modules["planted_path"]
    assert ablations.load(Path("lrn")) is ablations.load("lrn")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, r"None names no ablation; expected a name, such as 'depth', or the path of a file"),
        (3, r"3 names no ablation"),
        ("a\0b.py", r"there is no file 'a\\x00b\.py': .*null"),
        ("~nobody_of_this_name/mine.py", r"there is no file '~nobody_of.*mine\.py': "),
        (f"{'x' * 5000}.py", r"there is no file 'x+\.\.\.x+\.py': File name too long\."),
    ],
)
def test_what_names_neither_an_ablation_nor_a_file_is_told_in_a_line(given, said):
    with pytest.raises(UnknownAblation, match=f"^{said}"):
        ablations.load(given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = 1\0\n", r"/planted_wrong\.py: SyntaxError: source code string cannot contain null bytes$"),
        (b"# -*- coding: klingon -*-\n", r"/planted_wrong\.py: SyntaxError: unknown encoding: klingon$"),
    ],
)
def test_a_file_that_is_no_python_source_is_named(tmp_path, monkeypatch, content, said):
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "planted_wrong.py"
    file.write_bytes(content)
    with pytest.raises(InvalidAblation, match=said):
        ablations.load(file)
    del sys.modules["planted_wrong"]


def test_a_folder_in_place_of_a_file_is_named_as_one(tmp_path):
    with pytest.raises(UnknownAblation, match=r"there is no file .*, which is a folder; expected a file in it\.$"):
        ablations.load(tmp_path)


def test_a_single_claim_arm_or_path_needs_no_comma():
    lrn = ablations.load("lrn")
    assert replace(lrn, claims=lrn.claims[0]) == replace(lrn, claims=lrn.claims[:1])
    assert replace(lrn, arms=lrn.arms[0]) == lrn
    assert replace(lrn, varies="network.norm").varies == ("network.norm",)
    assert replace(lrn, claims=list(lrn.claims)).claims == lrn.claims


def test_what_is_no_claim_is_named():
    with pytest.raises(InvalidAblation, match=r"`claims` is 'A helps'; expected a tuple of Claim objects"):
        replace(ablations.load("lrn"), claims="A helps")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *(("vgg11", "vgg-a"), ("VGG13", "vgg-b"), ("vgg-16", "vgg-d"), ("Vgg_19", "vgg-e")),
        *(("ResNet50", "resnet-50"), ("VGG-D", "vgg-d"), ("vgg-a", "vgg-a")),
        *(("resnet50-v1.5", "resnet-50"), ("ResNet-50-v1", "resnet-50-v1")),
    ],
)
def test_networks_are_found_by_their_aliases_in_any_case(given, name):
    assert find_network(given) is NETWORKS[name]


def test_an_unknown_network_is_still_refused():
    with pytest.raises(InvalidValue, match="No network named 'vgg12'"):
        find_network("vgg12")


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        ("recipe.lr", "learning_rate"),
        ("recipe.wd", "weight_decay"),
        ("epochs", r"recipe\.epochs"),
        ("lr", r"recipe\.learning_rate"),
        ("num_classes", r"scale\.classes"),
    ],
)
def test_other_words_for_settings_are_suggested(given, suggested):
    with pytest.raises(UnknownPath, match=f"Did you mean '{suggested}'"):
        declare("depth", overrides={given: "3"})
