"""Every ablation in the folder, whoever added it."""

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


def test_a_new_file_is_found_and_its_second_change_refused_at_import():
    """A file put into the folder needs no registry; this one is written, used and removed."""
    file = ROOT / "ablations" / "planted_by_a_test.py"
    source = (
        '"""Does it show?"""\n'
        "from ablations import Ablation, Arm\n"
        "from lightning_modules.catalogue import VGG_A, VGG_A_LRN\n"
        'ABLATION = Ablation(question=__doc__, baseline=Arm("A", {"network": VGG_A}), varies=("network.norm",),\n'
        '    arms=(Arm("LRN", {"network": VGG_A_LRN, **EXTRA}),))\n'
    )
    listing = [sys.executable, "-m", "studies.cli", "list"]
    try:
        file.write_text(source.replace("EXTRA", "{}"))
        shown = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "planted_by_a_test" in shown
        target = ["make", "-n", "study-planted_by_a_test"]
        assert (
            "ablate run planted_by_a_test"
            in subprocess.run(target, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )
        file.write_text(source.replace("EXTRA", '{"recipe.momentum": 0.5}'))
        refused = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "recipe.momentum: 0.9 -> 0.5" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        file.unlink()
