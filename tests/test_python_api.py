"""What a user finds at the prompt: the names of the packages, and one line per object."""

import subprocess
import sys
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest

import ablations
import reports
import studies
from lightning_modules.catalogue import NETWORKS
from lightning_modules.spec import Custom
from lightning_modules.specs.errors import UnknownPath
from studies import protocols
from studies.runner import driver

ROOT = Path(__file__).parent.parent


def test_the_packages_list_what_users_call_and_nothing_else():
    assert dir(studies) == ["Resources", "TuningBudget", "declare", "protocols", "run", "show"]
    assert dir(reports) == ["JudgementReport", "Report", "SeedPlan", "judge", "load", "plan", "unresolved"]


@pytest.mark.parametrize("package", [studies, reports])
def test_every_listed_name_is_there_and_says_what_it_is(package):
    for name in dir(package):
        assert len(getattr(package, name).__doc__.partition("\n")[0]) > 20
    with pytest.raises(AttributeError, match="has no attribute 'rum'"):
        package.rum  # noqa: B018


def test_listing_the_names_loads_no_framework():
    code = (
        "import sys, studies, reports; dir(studies), dir(reports); "
        "print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


@pytest.mark.parametrize("name", ablations.names())
def test_an_ablation_has_one_line_and_a_view_with_its_arms_and_claims(name):
    ablation = ablations.load(name)
    assert repr(ablation).startswith(f"<{type(ablation).__name__} of ")
    assert "\n" not in repr(ablation)
    view = ablation._repr_html_()
    for arm in ablation.all_arms:
        assert f"<td>{arm.name}</td>" in view.replace("&#x27;", "'")
    assert view.count("<li>") == len(ablation.claims) + len(ablation.forced)


def test_a_claim_shows_its_sentence_and_source():
    (claim,) = ablations.load("depth").claims
    view = claim._repr_html_()
    assert "Test error falls from A to B to D to E." in view
    assert "Source: Simonyan &amp; Zisserman 2015" in view


@pytest.mark.parametrize("name", NETWORKS)
def test_every_named_network_has_a_view_of_its_stages(name):
    network = NETWORKS[name]
    assert "\n" not in repr(network)
    title = network.class_path if isinstance(network, Custom) else "weight layers"
    assert title in network._repr_html_()


def test_the_view_of_a_network_counts_weight_layers_as_its_paper_does():
    assert "Vgg of 19 weight layers" in NETWORKS["vgg-e"]._repr_html_()
    assert "ResNet of 50 weight layers" in NETWORKS["resnet-50"]._repr_html_()
    assert "Plain network of 34 weight layers" in NETWORKS["plain-34"]._repr_html_()


def test_a_study_has_one_line_and_a_view():
    study = studies.declare("depth", "digits", 3, {"recipe.epochs": 2})
    assert repr(study) == "<Study depth under digits, recipe.epochs=2: 4 arms × 3 seeds>"
    view = study._repr_html_()
    assert "12 trials" in view
    assert "Test error falls from A to B to D to E." in view


def test_a_protocol_is_found_by_name():
    assert studies.protocols is protocols


@pytest.mark.parametrize("value", [0.1, "0.1"])
def test_a_setting_without_its_whole_path_is_answered_with_it_whatever_the_type_of_its_value(value):
    with pytest.raises(UnknownPath, match=r"lr: a setting is given by its whole path\. Did you mean 'recipe\.learn"):
        studies.declare("lrn", overrides={"lr": value})


@pytest.mark.parametrize("package", ["ablations", "lightning_modules", "reports", "studies"])
def test_every_package_ships_its_annotations(package):
    assert (ROOT / package / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["setuptools"]["package-data"]["*"] == ["py.typed"]


def test_an_interrupted_study_says_in_one_line_what_to_do(monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "prepare_study", interrupt)
    monkeypatch.setattr(driver.prestart, "prestart_ray", lambda *_: nullcontext())
    with pytest.raises(KeyboardInterrupt) as caught:
        studies.run("lrn", runs=tmp_path)
    lines = caught.value._render_traceback_()
    assert lines == ["StudyInterrupted: ended trials are logged; the same call resumes from there."]
