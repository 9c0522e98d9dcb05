"""`ablate calibrate`: what it declares, refuses and prints; trainings are made up here."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from ablations import Ablation, Arm, Helps, InvalidAblation, Placebo, load
from lightning_modules.specs.errors import InvalidValue
from reports.calibration import calibration as rates
from reports.calibration import sampling_plan
from studies.cli.app import main
from studies.cli.running import calibrate
from studies.design.budget import RunBudget
from studies.design.declare import declare, declare_calibration, resuming_command
from studies.records.register import extend_study, resuming_command_of
from studies.settings import Settings
from studies.storage.study_status import StudyStatus
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


@pytest.mark.parametrize("arms", [("placebo",), ("placebo", "low"), ("low", "placebo")])
def test_a_placebo_without_its_baseline_is_refused_by_name(arms):
    ablation = Ablation(
        question="Does momentum help?",
        baseline=Arm("high", {"recipe.momentum": 0.9}),
        arms=(Placebo(), Arm("low", {"recipe.momentum": 0.5})),
        varies=("recipe.momentum",),
        claims=Helps(arm="high", over="low"),
    )
    with pytest.raises(InvalidAblation, match=r"arm 'placebo' is a placebo of the baseline, 'high', .* Add the arm"):
        ablation.select_arms(arms)
    assert ablation.select_arms(("high", *arms)).baseline.name == "high"


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


@pytest.mark.parametrize(("num_complete", "code"), [(8, 3), (5, 3)])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_calibration_that_stops_at_its_budget_shows_what_is_there(
    small_calibration, tmp_path, monkeypatch, num_complete, code, as_json
):
    """The page from eight seeds on; before that, how many are there."""
    arms = small_calibration.registration.arms
    states = {(arm, seed): "absent" for arm in arms for seed in range(num_complete, 9)}
    stopped = record(arms, 9, states)
    start = replace(stopped.starts[0], stop_reason="stopped at its budget of 1 min")
    stopped = replace(stopped, registration=small_calibration.registration, starts=(start,))
    budgets = []

    def train(study, settings, resources, reuse, budget, log):
        budgets.append(budget)
        return stopped

    monkeypatch.setattr(calibrate, "_train_seeds", train)
    options = ["--seeds", "9", "--max-time", "1m", "--runs", str(tmp_path), *(["--json"] if as_json else [])]
    result = run_command("depth", *options)
    assert result.exit_code == code, result.output
    assert budgets == [RunBudget(max_seconds=60)]
    if as_json:
        shown = json.loads(result.stdout)
        jsonschema.validate(shown, json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["calibrate"])
        assert (shown["trainings"], shown["stopped"]) == (num_complete, "stopped at its budget of 1 min")
        assert (shown["page"] is None) == (num_complete < 8)
        assert shown.get("left_out_seeds", 0) == 0
    elif num_complete < 8:
        assert "5 of the 8 or more seeds that it takes to resample studies are trained in every arm" in result.output
    else:
        assert result.output.rstrip().endswith("index.html")


def test_a_calibration_is_not_extended_but_calibrated_with_more_seeds():
    registration = replace(
        record(("A", "E"), 9).registration, study="calibration-depth", overrides={"recipe.epochs": 5}
    )
    with pytest.raises(InvalidValue) as refused:
        extend_study("calibration-depth", registration, tuple(range(300)))
    assert str(refused.value) == (
        "calibration-depth holds the trainings of a calibration, whose own command adds seeds: "
        "ablate calibrate depth --arm A --arm E --protocol digits --set recipe.epochs=5 --seeds 300"
    )


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({}, "ablate run depth --protocol digits --set recipe.epochs=5 --seeds 9"),
        ({"seeds": (7,)}, "ablate run depth --protocol digits --set recipe.epochs=5 --seeds 7,"),
        (
            {"study": "pair", "overrides": {}, "looks": (3, 9)},
            "ablate run PATH/pair.py --protocol digits --looks 3,9",
        ),
        ({"study": "calibration-depth", "overrides": {}, "seeds": (3, 4)}, "--arm E --protocol digits --seeds 3,4"),
    ],
)
def test_the_command_that_trains_what_is_left_names_the_same_study(fields, command):
    registration = replace(record(("A", "E"), 9).registration, **{"overrides": {"recipe.epochs": 5}, **fields})
    assert resuming_command_of(registration).endswith(command)


def test_what_is_said_of_a_calibration_that_stopped_names_its_own_command():
    assert resuming_command("calibration-depth") == "ablate calibrate depth"
    assert resuming_command("depth") == "ablate run depth"
    status = StudyStatus(
        study="calibration-depth", protocol="digits", state="died", owner="", planned_at=0.0, trials=()
    )
    assert status.description == "its process died; `ablate calibrate` resumes it"
