"""The command line: what it prints, and what it says of bad input."""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import ablations
from lightning_modules.specs.catalogue import NETWORKS
from reports.comparison.comparison import compare_arms
from reports.pages import study as pages
from studies import protocols
from studies.cli.app import main
from studies.cli.reporting import ui
from studies.cli.reporting.reports import compile_report
from studies.console.status_output import recorded_status
from studies.settings import Settings

pytestmark = pytest.mark.xdist_group("one recorded study")

# The recorded study's page: its settings are overridden.
QUICK_DEPTH = "depth-digits-with-recipe.epochs=2,recipe.batch_size=64,scale.width=0.0625"


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown.output


def test_help_names_every_command():
    shown = call("--help")
    for name in ("list", "show", "run", "status", "report", "ui", "profile"):
        assert f"  {name} " in shown


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_help(name):
    assert call(name, "--help").startswith("Usage:")


@pytest.mark.parametrize("name", [None, *main.commands])
def test_every_help_has_examples_of_commands_and_options_that_exist(name):
    """Only what stands in the help of the command itself; ``ablate --help`` gives examples of several."""
    epilog = (main.commands[name] if name else main).epilog or ""
    examples = [line.strip() for line in epilog.splitlines() if line.strip().startswith(("ablate ", 'eval "$(ablate '))]
    assert examples, f"ablate {name} --help has no example"
    assert all(example in call(*([name] if name else []), "--help") for example in examples)
    for example in examples:
        words = example.removeprefix('eval "$(').partition("  #")[0].replace(')"', "").split()
        command = main.commands.get(words[1])
        assert name in (None, words[1])
        known = {"--help", *(option for item in command.params for option in (*item.opts, *item.secondary_opts))}
        assert {word for word in words[2:] if word.startswith("--")} <= known, example


def test_list_says_the_same_as_table_and_as_json():
    table, data = call("list"), json.loads(call("list", "--json"))
    assert [row["name"] for row in data["ablations"]] == list(ablations.names())
    assert [row["name"] for row in data["protocols"]] == list(protocols.names())
    assert all(row["name"] in table and row["question"] in table for row in data["ablations"])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_list_names_a_broken_file_and_lists_the_others(options, tmp_path, monkeypatch):
    (tmp_path / "planted_broken.py").write_text('"""Why?"""\nfrom ablations import nonesuch\n')
    monkeypatch.setattr(ablations, "__path__", [*ablations.__path__, str(tmp_path)])
    monkeypatch.setattr(ablations._discovery, "ABLATIONS_FOLDER", tmp_path)
    monkeypatch.setattr(ablations, "names", lambda: ("lrn", "planted_broken"))
    monkeypatch.setattr(ablations._discovery, "names", ablations.names)
    result = CliRunner().invoke(main, ["list", *options])
    assert result.exit_code == 1
    assert "local response normalization" in result.output.casefold()
    assert "planted_broken" in result.output
    assert "line 2: ImportError: cannot import name 'nonesuch'" in " ".join(result.output.split())


def test_show_says_arms_changes_what_is_held_claims_and_trials():
    data = json.loads(call("show", "depth", "--json", "--seeds", 3, "--set", "recipe.epochs=2"))
    assert list(data["arms"]) == ["A", "B", "D", "E"]
    assert data["trials"] == 12
    assert data["arms"]["A"]["changes"] == []
    assert data["arms"]["B"]["changes"] == ["network.stages.*.convs.*: absent -> kernel=3, activate=True (2 times)"]
    assert data["held"]["recipe.epochs"] == 2
    assert data["arms"]["E"]["properties"]["weight_layers"] == 19
    assert data["claims"] == ["Test error falls from A to B to D to E."]
    assert 0 < data["arms"]["A"]["seconds"] < data["arms"]["E"]["seconds"]
    table = call("show", "depth", "--seeds", 3, "--set", "recipe.epochs=2")
    assert table.startswith("building and timing the networks of 4 arms\n")  # before the seconds that this takes
    for text in ("trials   12", "614,594", "epochs=2", "falls from A to B"):
        assert text in table


@pytest.mark.parametrize("name", NETWORKS)
def test_profile_gives_counts_as_json(name):
    data = json.loads(call("profile", name, "--resolution", 224, "--classes", 1000, "--json"))
    assert data["network"] == name
    assert data["parameters"] == sum(layer["parameters"] for layer in data["layers"])
    assert data["multiply_adds"] == sum(layer["multiply_adds"] for layer in data["layers"])
    assert data["receptive_field"] > 80


def test_profile_prints_layers_and_sums():
    shown = call("profile", "vgg-d")
    for text in ("stage5.conv3", "138,357,544", "15,470,264,320", "212"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("run", "dept"), "No ablation named 'dept'. Did you mean 'depth'?"),
        (("run", "depth", "--protocol", "digit"), "No protocol named 'digit'. Did you mean 'digits'?"),
        (("run", "depth", "--set", "recipe.epoch=3"), "Did you mean 'epochs'?"),
        (("run", "depth", "--set", "recipe.epochs=-3"), "Recipe.epochs is -3; expected 1 to 100,000."),
        (("run", "depth", "--set", "recipe.epochs=few"), "recipe.epochs: 'few' cannot be read as a whole number"),
        (("run", "depth", "--tracking-uri", "sqlite:////no/such/folder/x.db"), "there is no folder /no/such/folder"),
        (("run", "depth", "--set", "recipe.schedule=cosin"), "Did you mean 'cosine'?"),
        (("run", "depth", "--set", "recipe.epochs"), "is not of the form path=value"),
        (("run", "depth", "--set", "scale.classes=1"), "Scale.classes is 1; expected 2 or more."),
        (
            ("run", "depth", "--seeds", "0"),
            "0 seeds; expected a number of seeds from 1 to 2,000. Did you mean the seed 0?",
        ),
        (("run", "depth", "--seeds", "20261126"), "Did you mean the seed 20261126? Write it with a comma: 20261126,"),
        (("run", "depth", "--seeds", "99999999999"), "99999999999 seeds; expected a number of seeds from 1 to 2,000."),
        (("cancel", "depth", "E", "x"), "'x' is not a valid integer."),
        (("extend", "depth", "--seeds", "20261126"), "Did you mean the seed 20261126?"),
        (("run", "depth", "--until-resolved", "--max-seeds", "20261126"), "not in the range 2<=x<=2000"),
        (("run", "depth", "--looks", "3,20261126"), "20261126 seeds; expected a number of seeds from 1 to 2,000."),
        (("run", "depth", "--tune", "99999999999"), "not in the range 0<=x<=10000"),
        (("run", "depth", "--set", "recipe.epochs=20261126"), "epochs is 20261126; expected 1 to 100,000."),
        (("run", "depth", "--hang-after", "inf"), "hang_after_seconds is inf; expected seconds, from 0 to 1000000."),
        (("profile", "vgg-16", "--resolution", "99999999999"), "not in the range 1<=x<=65536"),
        (("run", "depth", "--seeds", "a"), "neither a number of seeds"),
        (("run", "depth", "--seeds", "1,1"), "expected different whole numbers"),
        (("run", "depth", "--tracking-uri", "ftp://x"), "expected a database"),
        (("run", "depth", "--gpus-per-trial", "1.5"), "a share of one (0.5), or a whole number"),
        (("run", "depth", "--cpus-per-trial", "10000"), "this machine's"),
        (("show", "dept"), "Did you mean 'depth'?"),
        (("profile", "vgg-f"), "No network named 'vgg-f'."),
        (("profile", "vgg-a", "--resolution", "8"), "expected 32 pixels or more"),
        (("shwo",), "Did you mean 'show'?"),
        (("report",), "Name a study, or give --all."),
    ],
)
def test_misuse_is_one_clear_line_with_code_2_and_writes_nothing(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = call(*arguments, code=2)
    assert text in " ".join(shown.split())
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", [pytest.param("cifar10", marks=pytest.mark.slow), "cifar10-cpu"])
def test_an_empty_data_root_is_named_with_what_to_do(protocol, tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    arguments = ("--protocol", protocol, "--data-root", tmp_path / "data", "--runs", tmp_path / "runs")
    shown = call("run", "depth", *arguments, code=2)
    assert "has 0 classes (none); expected two or more folders" in shown
    assert not (tmp_path / "runs" / "trials").exists()


def test_a_report_of_a_study_that_was_never_run_says_how_to_run_it(recorded):
    shown = call("report", "lrn", "--runs", recorded.runs, code=2)
    assert "holds no study 'lrn' under the protocol 'digits'" in shown
    assert f"`ablate run` records it: ablate run lrn --protocol digits --runs {recorded.runs}" in shown
    shown = call("report", "depth", "--runs", recorded.runs, "--against-protocol", "cifar10-cpu", code=2)
    assert f"`ablate run` records it: ablate run depth --protocol cifar10-cpu --runs {recorded.runs}" in shown
    shown = call("report", "dept", "--runs", recorded.runs, code=2)
    assert "Did you mean 'depth'?" in shown
    assert "ablate run dept" not in shown
    shown = call("report", "./pair.py", "--runs", recorded.runs, code=2)
    assert "`ablate run` records it: ablate run PATH/pair.py --protocol digits" in shown
    shown = call("report", "dept", "depth", "--runs", recorded.runs, code=1)
    assert "No report of dept: " in shown
    assert "NotRecordedError" not in shown


def test_a_cleanup_of_a_folder_that_does_not_exist_is_misuse(tmp_path):
    shown = call("gc", "--yes", "--runs", tmp_path / "misspelled", code=2)
    assert "expected the runs folder of a study" in shown


def test_the_page_of_a_study_is_found_by_the_path_of_its_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ui, "_find_pages_of_server", lambda _, name: asked.append(name))
    (tmp_path / "mine.py").write_text("ABLATION = None")
    call("ui", tmp_path / "mine.py", "--tracking-uri", "http://localhost:1", "--no-browser", "--runs", tmp_path)
    assert asked == ["mine"]


READERS = (
    ("sync",),
    ("sync", "depth"),
    ("status",),
    ("status", "--json"),
    ("status", "depth"),
    ("status", "depth", "--record"),
    ("report", "depth"),
    ("report", "--all"),
    ("export", "depth"),
    ("extend", "depth", "--seeds", "4"),
    ("ui",),
)


@pytest.mark.parametrize("arguments", READERS)
def test_reading_where_nothing_was_run_is_misuse_and_makes_no_store(arguments, tmp_path):
    shown = call(*arguments, "--runs", tmp_path / "runs", code=2)
    assert re.search("nothing has been run (there|with this folder) yet|holds no study 'depth'", shown)
    assert not list(tmp_path.glob("runs/*"))


def test_an_interrupt_names_the_way_on_only_where_there_is_one(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("studies.cli.common.options.StudyOptions.declare_study", interrupt)
    assert call("show", "depth", code=130).splitlines() == ["Interrupted."]
    assert "the same command resumes from there" in call("run", "depth", "--dry-run", code=130)


def test_debug_shows_the_traceback():
    shown = CliRunner().invoke(main, ["--debug", "run", "dept"])
    assert isinstance(shown.exception, ValueError)


def test_status_and_report_read_the_record(recorded):
    of_the_store = json.loads(call("status", "depth", "--runs", recorded.runs, "--record", "--json"))
    of_the_folder = json.loads(call("status", "depth", "--runs", recorded.runs, "--json"))
    assert (of_the_folder["state"], of_the_folder["ended"], of_the_folder["trials"]) == ("ended", 8, 8)
    assert (of_the_folder["source"], of_the_store["source"]) == ("runs folder", "tracking store")
    assert of_the_folder["arms"]["A"]["0"]["node"] == platform.node()
    # One shape: what the tracking store knows is equal.
    for row in of_the_folder["arms"].values():
        for cell in row.values():
            cell["node"] = ""
    assert of_the_store == of_the_folder | {"source": "tracking store"}
    assert of_the_store["arms"]["E"]["1"]["epochs"] == 2
    page = Path(call("report", "depth", "--runs", recorded.runs).splitlines()[-1])
    assert page.is_file()
    attached = {file.path for file in recorded.store.runs.client.list_artifacts(recorded.record.run_id, "report")}
    assert "report/index.html" in attached


def test_a_run_says_its_answer_before_the_path_of_its_page(recorded, capsys):
    report = compile_report(recorded.record, Settings.from_environment(recorded.runs), with_answer=True)
    assert report.page.is_file()
    assert capsys.readouterr().out.strip() == compare_arms(recorded.record).answer


def test_what_a_calibration_knows_is_told_by_report_and_gate(recorded, monkeypatch):
    monkeypatch.setattr(pages, "read_calibration", lambda *_: recorded.record)
    monkeypatch.setattr(pages, "rare_failure_cautions", lambda *_: ["E fails now and then"])
    (report,) = json.loads(call("report", "depth", "--json", "--runs", recorded.runs))["reports"]
    assert report["cautions"][0] == "E fails now and then"
    gated = CliRunner().invoke(main, ["gate", "depth", "--json", "--runs", str(recorded.runs)])
    assert json.loads(gated.stdout)["cautions"][0] == "E fails now and then"
    gated = CliRunner().invoke(main, ["gate", "depth", "--runs", str(recorded.runs)])
    assert gated.stdout.count("\n") == 1
    assert gated.stderr.startswith("caution: E fails now and then\n")


def test_status_without_a_name_lists_what_the_folder_knows(recorded, tmp_path):
    shown = call("status", "--runs", recorded.runs)
    assert re.search(r"^depth +digits +8 of 8 +complete", shown, re.MULTILINE)
    assert "nothing has been run with this folder yet" in call("status", "--runs", tmp_path, code=2)


def test_status_asks_no_engine_and_neither_torch_nor_the_store(recorded):
    code = f"""
import sys
from studies.cli.app import main
try:
    main(["status", "depth", "--runs", {str(recorded.runs)!r}])
except SystemExit as end:
    assert not end.code
loaded = {{name.split(".")[0] for name in sys.modules}}
print("loaded", sorted(loaded & {{"torch", "ray", "mlflow", "optuna", "pandas"}}))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "depth under digits: complete" in shown
    assert shown.splitlines()[-1] == "loaded []"


def test_status_tells_of_donors_in_both_forms():
    registration = SimpleNamespace(arms=("cold", "warm"), donors={"warm": "donor of warm"}, tested={}, seeds=(0,))
    registration.study, registration.protocol = "warm_start", "digits"
    record = SimpleNamespace(
        registration=registration, find_trial=lambda *_: None, trials=(), tuning=None, starts=(), stop_reason=""
    )
    shown = recorded_status(record)
    assert shown.state == "registered"
    trials = shown.trials
    assert [(trial.arm, trial.state) for trial in trials] == [
        ("cold", "waiting"),
        ("warm", "waiting"),
        ("donor of warm", "waiting"),
    ]


def test_a_report_of_everything_adds_a_summary(recorded):
    pages = call("report", "--all", "--runs", recorded.runs).splitlines()
    assert [Path(page).parent.name for page in pages] == [QUICK_DEPTH, "summary-digits"]


def test_one_study_without_a_report_is_named_and_does_not_stop_the_others(recorded, monkeypatch):
    from studies.cli.reporting import reports

    real = reports.read_study

    def read(name, *given):
        if name == "broken":
            raise ValueError("zip() argument 2 is shorter than argument 1")
        return real(name, *given)

    monkeypatch.setattr(reports, "read_study", read)
    monkeypatch.setattr(reports, "_recorded_studies", lambda *_: {"broken", "depth"})
    shown = CliRunner().invoke(main, ["report", "--all", "--runs", str(recorded.runs)])
    assert shown.exit_code == 1
    assert [Path(page).parent.name for page in shown.stdout.splitlines()] == [QUICK_DEPTH, "summary-digits"]
    assert "No report of broken: zip() argument 2 is shorter than argument 1 (ValueError)" in shown.stderr
    assert "1 of 2 studies have no report" in shown.stderr


def test_a_notebook_reads_the_same_report(recorded):
    import reports

    report = reports.load("depth", runs=recorded.runs)
    assert len(report.trials()) == 8
    assert report.comparison.registration.question in report.markdown()


@pytest.mark.slow
def test_the_ui_of_a_server_is_the_server():
    assert "open http://127.0.0.1:1 in a browser" in call("ui", "--tracking-uri", "http://127.0.0.1:1")
