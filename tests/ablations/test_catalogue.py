"""Every ablation in the folder, whoever added it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ablations
from ablations import Ablation, UnknownAblation
from studies import protocols
from studies.trials import Study

ROOT = Path(ablations.__file__).parent.parent


@pytest.mark.parametrize("name", ablations.names())
def test_it_loads_and_asks_a_question(name):
    ablation = ablations.load(name)
    assert isinstance(ablation, Ablation)
    assert ablation.question.strip().endswith("?")


@pytest.mark.parametrize("name", ablations.names())
def test_its_claims_are_sentences_about_its_own_arms(name):
    ablation = ablations.load(name)
    arms = {arm.name for arm in ablation.all_arms}
    for claim in ablation.claims:
        assert claim.sentence.endswith(".")
        assert set(claim.arms) <= arms
        assert all(set(contrast) <= arms for contrast in claim.contrasts)


@pytest.mark.parametrize("protocol", protocols.names())
@pytest.mark.parametrize("name", ablations.names())
def test_it_keeps_the_contract_under_every_protocol(name, protocol):
    conditions = protocols.load(protocol)
    study = Study(name=name, ablation=ablations.load(name), protocol=conditions, seeds=conditions.seeds, overrides={})
    trials = study.trials()
    assert len(trials) == len(study.ablation.all_arms) * len(conditions.seeds)
    assert len({trial.fingerprint for trial in trials}) == len(trials)


@pytest.mark.parametrize("name", ablations.names())
def test_it_is_a_make_target(name):
    shown = subprocess.run(["make", "-n", f"study-{name}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"ablate run {name}" in shown.stdout


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(UnknownAblation, match=r"No ablation named 'dept'\. Did you mean 'depth'\? There are: .*depth"):
        ablations.load("dept")


PLANTED = '''"""Does it show?"""
from ablations import Ablation, Arm
from lightning_modules.catalogue import VGG_A, VGG_A_LRN

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("A", {"network": VGG_A}),
    arms=(Arm("LRN", {"network": VGG_A_LRN, **EXTRA}),),
    varies=("network.norm",),
)
'''


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources, into which a test may put a file."""
    for name in ("ablations", "lightning_modules", "studies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def in_tree(tree, *line):
    return subprocess.run(line, cwd=tree, capture_output=True, text=True, check=False)


def test_a_new_file_is_listed_and_a_make_target_with_no_other_change(tree):
    (tree / "ablations" / "planted.py").write_text(PLANTED.replace("EXTRA", "{}"))
    listed = in_tree(tree, sys.executable, "-m", "studies.cli", "list")
    assert "planted" in listed.stdout
    assert "Does it show?" in listed.stdout
    assert "ablate run planted" in in_tree(tree, "make", "-n", "study-planted").stdout


def test_a_second_change_in_a_new_file_is_refused_at_import(tree):
    (tree / "ablations" / "planted.py").write_text(PLANTED.replace("EXTRA", '{"recipe.momentum": 0.5}'))
    refused = in_tree(tree, sys.executable, "-m", "studies.cli", "list")
    assert refused.returncode == 2
    assert "arm 'LRN' may vary only network.norm, but it also changes" in refused.stderr
    assert "recipe.momentum: 0.9 -> 0.5" in refused.stderr
    assert "Traceback" not in refused.stderr
