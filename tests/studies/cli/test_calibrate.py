"""`ablate calibrate`: what it declares, refuses and prints; trainings are made up here."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from ablations import InvalidAblation, load
from reports.calibration import calibration as rates
from reports.calibration import sampling_plan
from studies.cli.app import main
from studies.cli.running import calibrate
from studies.design.declare import declare, declare_calibration
from studies.settings import Settings
from tests.reports.records import record

SCHEMA = Path(__file__).parents[3] / "docs" / "commands.schema.json"


def run_command(*arguments):
    return CliRunner().invoke(main, ["calibrate", *arguments])


def test_its_trials_are_those_of_the_whole_study():
    whole = {(trial.arm, trial.seed): trial.fingerprint for trial in declare("depth", seeds=3).trials()}
    calibration = declare_calibration("depth", "digits", 3, {}, ["E", "A"])
    assert calibration.name == "calibration-depth"
    assert {(trial.arm, trial.seed): trial.fingerprint for trial in calibration.trials()} == {
        key: value for key, value in whole.items() if key[0] in "AE"
    }


def test_one_arm_alone_can_be_selected_and_an_unknown_one_is_named():
    selection = load("depth").select_arms(["E"])
    assert [arm.name for arm in selection.all_arms] == ["E"]
    assert selection.claims == ()
    with pytest.raises(InvalidAblation, match=r"there is no arm 'F'\. There are: A, B, D, E"):
        load("depth").select_arms(["F"])


def test_an_arm_that_would_be_trained_otherwise_without_the_baseline_is_refused(monkeypatch):
    monkeypatch.setattr(
        "studies.design.study.Study.setups",
        lambda study: {arm.name: len(study.ablation.all_arms) for arm in study.ablation.all_arms},
    )
    with pytest.raises(ValueError, match="Add --arm 'A'"):
        declare_calibration("depth", "digits", 3, {}, ["E"])


def test_too_few_seeds_are_refused_before_anything_is_trained():
    result = run_command("depth", "--seeds", "5")
    assert result.exit_code == 2
    assert "5 seeds are too few to resample studies from; expected 8 or more" in result.output


def test_a_dry_run_lists_two_hundred_seeds_of_the_arms():
    result = run_command("--arm", "A", "--dry-run", "--json")
    trials = json.loads(result.output)["trials"]
    assert {trial["arm"] for trial in trials} == {"A"}
    assert len(trials) == 200


@pytest.fixture
def small_calibration(monkeypatch):
    monkeypatch.setattr(sampling_plan, "SEED_COUNTS", (2, 3))
    monkeypatch.setattr(sampling_plan, "EQUIVALENCE_SEED_COUNTS", (3,))
    monkeypatch.setattr(rates, "NUM_RESAMPLES", 2)
    made_up = record(("A", "B", "D", "E"), 9)
    return replace(made_up, registration=replace(made_up.registration, study="calibration-depth", claims=()))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_table_and_the_page_or_json_alone(small_calibration, tmp_path, capsys, as_json):
    settings = Settings.from_environment(tmp_path)
    calibrate.write_and_print(small_calibration, declare("depth"), settings, as_json=as_json)
    printed = capsys.readouterr().out
    page = tmp_path / "reports" / "calibration-depth-digits-with-recipe.epochs=30-error-rates" / "index.html"
    assert page.exists()
    if as_json:
        shown = json.loads(printed)
        jsonschema.validate(shown, json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["calibrate"])
        assert (shown["study"], shown["page"]) == ("depth", str(page))
    else:
        assert printed.splitlines()[0].startswith("Where no arm differs, ")
        assert "the study's own claims" in printed
        assert printed.rstrip().endswith(str(page))
