"""Every ablation in the folder, whoever added it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ablations
from ablations import Ablation, UnknownAblation
from ablations._arms import DEFAULT_SETUP
from lightning_modules.catalogue import VGG_A
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.scale import Scale
from lightning_modules.specs.setup import Setup
from studies import protocols
from studies.design.study import Study
from studies.design.verification import build_verified_networks

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
    arms = {arm.name for arm in study.ablation.all_arms} | set(study.source_arms.values())
    arms |= {name for names in study.evaluated_arms.values() for name in names}
    assert {(trial.arm, trial.seed) for trial in trials} == {(arm, seed) for arm in arms for seed in conditions.seeds}
    assert len({trial.fingerprint for trial in trials}) == len(trials)


# Networks of CIFAR-10's two protocols are those of `digits` at other widths: that one is enough for every run.
WITH_SLOW = [pytest.param(name, marks=pytest.mark.slow if "cifar10" in name else ()) for name in protocols.names()]


@pytest.mark.parametrize("protocol", WITH_SLOW)
@pytest.mark.parametrize("name", ablations.names())
def test_its_networks_are_built_as_they_are_declared(name, protocol):
    conditions = protocols.load(protocol)
    study = Study(name=name, ablation=ablations.load(name), protocol=conditions, seeds=(0,), overrides={})
    networks = build_verified_networks(study.setups())
    assert all(network.properties["parameters"] > 0 for network in networks.values())


@pytest.mark.parametrize("name", ablations.names())
def test_its_networks_are_built_at_224_pixels(name):
    for network in build_verified_networks(ablations.load(name).setups(DEFAULT_SETUP)).values():
        assert network.properties["receptive_field"] > 0


def test_every_file_is_short():
    lengths = {name: len((ROOT / "ablations" / f"{name}.py").read_text().splitlines()) for name in ablations.names()}
    assert {name: length for name, length in lengths.items() if length > 42} == {}


def test_every_ablation_is_a_make_target():
    targets = [f"study-{name}" for name in ablations.names()]
    shown = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=True)
    run = {words[words.index("run") + 1] for line in shown.stdout.splitlines() if "run" in (words := line.split())}
    assert run == set(ablations.names())


def profiled(name, arm, resolution=224, width=1.0):
    scale = Scale(resolution=resolution, width=width)
    arms = {each.name: each for each in ablations.load(name).all_arms}
    setup = arms[arm].apply(Setup(network=VGG_A, scale=scale))
    return profile_spec(setup.network, setup.scale)


@pytest.mark.parametrize(("resolution", "width"), [(224, 1.0), (32, 1.0), (32, 0.5)])
def test_the_controls_of_the_kernel_size_match_what_they_say(resolution, width):
    found = {
        arm.name: profiled("kernel_size", arm.name, resolution, width) for arm in ablations.load("kernel_size").all_arms
    }
    pair = found["two 3×3"]
    assert found["5×5 of 3×3's parameters"].conv_parameters == pytest.approx(pair.conv_parameters, rel=0.02)
    assert found["5×5 of 3×3's arithmetic"].multiply_adds == pytest.approx(pair.multiply_adds, rel=0.02)
    assert {each.receptive_field for each in found.values()} == {156}
    assert [each.nonlinearities for each in found.values()] == [10, 5, 5, 10, 5, 5]
    unactivated = found["two 3×3 without inner ReLU"]
    assert (unactivated.parameters, unactivated.multiply_adds) == (pair.parameters, pair.multiply_adds)


def test_one_7x7_has_81_percent_more_weights_than_three_3x3_that_see_as_much():
    """27 C² against 49 C² between equal channels; from 64 to 128 channels, as here, 11×11 has 991,360 in all."""
    rest = profiled("receptive_field", "one 7×7").conv_parameters - (49 * 64 * 128 + 128)
    assert round(49 / 27, 2) == 1.81
    assert profiled("receptive_field", "three 3×3").conv_parameters - rest == 369_024
    assert profiled("receptive_field", "one 11×11").conv_parameters - rest == 991_360
    fields = [
        profiled("receptive_field", arm).receptive_field for arm in ("three 3×3", "one 7×7", "five 3×3", "one 11×11")
    ]
    assert fields[0] == fields[1] < fields[2] == fields[3]


def test_early_down_sampling_is_most_of_why_a_residual_network_computes_less():
    """Of 15.5 billion multiply-adds of VGG-16; He et al. 2016, Table 1, print 1.8 billion for 18 layers."""
    late, early = (profiled("stem", arm).multiply_adds for arm in ("3×3 stem", "7×7 stem"))
    assert (round(late / 1e9, 1), round(early / 1e9, 1)) == (27.2, 1.8)


def test_the_residual_network_at_the_end_of_the_steps_has_the_convolutions_of_the_first():
    steps = [profiled("vgg_to_resnet", arm.name) for arm in ablations.load("vgg_to_resnet").all_arms]
    assert [step.nonlinearities for step in steps] == [13] * 6
    assert [step.weight_layers for step in steps] == [16, 16, 16, 14, 14, 14]  # global pooling takes two layers
    assert steps[-1].parameters == steps[-2].parameters  # residual sums have none


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
    assert refused.returncode == 1  # the other ablations are listed all the same
    assert "normalization" in refused.stdout
    assert "arm 'LRN' may vary only network.norm, but it also changes" in refused.stderr
    assert "recipe.momentum: 0.9 -> 0.5" in refused.stderr
    assert "Traceback" not in refused.stderr
