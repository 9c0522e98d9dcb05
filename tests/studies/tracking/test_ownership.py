"""Two runs folders on one tracking store: each means its own study, and leaves the other's alone."""

import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from studies.cli.app import main
from studies.settings import Settings, sqlite_uri
from studies.storage.folder_id import FOLDER_ID_FILE, ensure_folder_id, read_folder_id
from studies.tracking.errors import TrackingError
from studies.tracking.ownership import FOLDER_TAG, USER_TAG
from studies.tracking.store import open_store
from tests.reports import golden

QUICK = {"recipe.epochs": 2}


@pytest.fixture(scope="module")
def study():
    record = golden.read("started")
    return replace(record, registration=replace(record.registration, overrides={}))


class Shared:
    """A database that belongs to no runs folder, as a server does."""

    def __init__(self, folder):
        self.folder = folder

    def settings(self, user):
        runs = self.folder / user
        runs.mkdir(exist_ok=True)
        return Settings.from_environment(runs, tracking_uri=sqlite_uri(self.folder / "shared.db"))

    def store(self, user):
        return open_store(self.settings(user))

    def put(self, user, study, overrides=None):
        registration = replace(study.registration, overrides=overrides or {})
        conditions = "c1" if overrides else "c0"
        tags = {"study": registration.study, "protocol": registration.protocol, "revision": "0", USER_TAG: user}
        return self.store(user).writer.register_study(registration, conditions, tags)

    def call(self, user, *arguments):
        options = ("--runs", str(self.folder / user), "--tracking-uri", sqlite_uri(self.folder / "shared.db"))
        return CliRunner().invoke(main, [*arguments, *options])


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    open_store(Settings.from_environment(folder))  # MLflow takes a second to create its tables
    return folder / "mlflow.db"


@pytest.fixture
def shared(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "shared.db")
    return Shared(tmp_path)


def test_each_runs_folder_registers_reads_and_reopens_its_own_study(shared, study):
    ours, theirs = shared.put("alice", study), shared.put("bob", study)
    assert ours != theirs
    assert (shared.put("alice", study), shared.put("bob", study)) == (ours, theirs)
    name = study.registration.study
    for user, run_id in (("alice", ours), ("bob", theirs)):
        record = shared.store(user).reader.read_study(name)
        assert (record.run_id, record.is_own, record.other_runs) == (run_id, True, ())
    assert shared.store("bob").reader.read_study(name, run_id=ours[:8]).is_own is False


def test_a_study_of_others_alone_is_read_and_told_as_theirs_but_never_closed_or_extended(shared, study):
    run_id = shared.put("alice", study)
    name = study.registration.study
    carol = shared.store("carol")
    record = carol.reader.read_study(name)
    assert (record.run_id, record.is_own) == (run_id, False)
    conditions = carol.reader.read_conditions(run_id)
    assert not carol.inspector.is_registered(name, conditions)
    assert carol.inspector.closed_run_id(name, conditions) == ""
    answer = shared.call("carol", "extend", name, "--protocol", study.registration.protocol, "--seeds", "9")
    assert answer.exit_code == 2
    assert f"with --run {run_id}" in answer.output
    page = shared.call("carol", "report", name, "--protocol", study.registration.protocol)
    assert page.exit_code == 0, page.output
    assert (
        f"has started no run of it in {sqlite_uri(shared.folder / 'shared.db')}. Taken is run {run_id}" in page.stderr
    )
    assert page.stdout.strip().endswith(f"{name}-{study.registration.protocol}-run-{run_id[:8]}/index.html")
    assert "report" not in carol.runs.list_files(run_id)
    assert shared.call("alice", "report", name, "--protocol", study.registration.protocol).exit_code == 0
    assert "report" in carol.runs.list_files(run_id)


def test_a_later_quick_try_hides_neither_the_study_nor_its_page(shared, study):
    name, protocol = study.registration.study, study.registration.protocol
    full, quick = shared.put("alice", study), shared.put("alice", study, QUICK)
    record = shared.store("alice").reader.read_study(name, protocol)
    assert record.run_id == full
    assert [text.split()[0] for text in record.other_runs] == [quick]
    assert record.other_runs[0].endswith("--set recipe.epochs=2)")
    answer = shared.call("alice", "report", name, "--protocol", protocol)
    assert f"{name} under {protocol} has 2 runs. Taken is {full}; not taken: {quick} under" in answer.stderr
    assert answer.stdout.strip().endswith(f"/{name}-{protocol}/index.html")
    named = shared.call("alice", "report", name, "--protocol", protocol, "--run", quick[:10])
    assert named.stdout.strip().endswith(f"/{name}-{protocol}-with-recipe.epochs=2-run-{quick[:8]}/index.html")


def test_a_plan_takes_the_run_with_the_same_changes_as_its_pilot(shared, study):
    name, protocol = "depth", "digits"
    study = replace(study, registration=replace(study.registration, study=name, protocol=protocol))
    quick, full = shared.put("alice", study, QUICK), shared.put("alice", study)
    reader = shared.store("alice").reader
    assert reader.read_study(name, protocol, overrides=QUICK).run_id == quick
    assert reader.read_study(name, protocol, overrides={"recipe.epochs": 3}).run_id == full
    same = shared.call("alice", "plan", name, "--protocol", protocol, "--set", "recipe.epochs=2")
    assert f"Taken is {quick}" in same.stderr
    assert "the noise is that of" not in same.stderr
    other = shared.call("alice", "plan", name, "--protocol", protocol, "--set", "recipe.epochs=3")
    assert f"Taken is {full}" in other.stderr
    assert (
        "note: the noise is that of a run without --set; planned is a study with --set recipe.epochs=3" in other.stderr
    )


def test_a_file_with_the_name_of_an_ablation_of_this_package_is_refused_by_every_command(shared, tmp_path):
    file = tmp_path / "depth.py"
    file.write_text("ABLATION = None\n")
    for command in (["run"], ["plan"], ["report"], ["status"], ["extend", "--seeds", "9"]):
        answer = shared.call("alice", *command, str(file))
        assert answer.exit_code == 2, (command, answer.output)
        assert "depth.py cannot be named 'depth': that is the name of an ablation of this package" in answer.output


def test_runs_of_earlier_versions_belong_to_their_user(shared, study, monkeypatch):
    run_id = shared.put("alice", study)
    store = shared.store("alice")
    store.runs.client.delete_tag(run_id, FOLDER_TAG)
    for user, is_own in (("alice", True), ("bob", False)):
        monkeypatch.setenv("LOGNAME", user)
        assert shared.store("bob").reader.read_study(study.registration.study).is_own is is_own


def test_a_registration_of_others_that_was_cut_off_is_left_alone(shared, study):
    run_id = shared.put("alice", study)
    shared.store("alice").runs.client.delete_tag(run_id, "kind")
    assert shared.put("bob", study) != run_id
    assert shared.put("alice", study) == run_id


def test_two_hosts_of_one_storage_that_register_at_once_agree_on_one_run(shared, study, monkeypatch):
    """The second host sees nothing until it has created its run, as in a race."""
    storage = shared.folder / "storage"
    storage.mkdir()
    first, second = (replace(shared.settings(user), storage_folder=storage) for user in ("one", "two"))
    registration, tags = study.registration, {"study": study.registration.study, "protocol": "digits"}
    run_id = open_store(first).writer.register_study(registration, "c0", tags)
    late = open_store(second)
    seen = type(late.runs).find_own_run
    answers = [None, None]
    monkeypatch.setattr(type(late.runs), "find_own_run", lambda *given: answers.pop() if answers else seen(*given))
    assert late.writer.register_study(registration, "c0", tags) == run_id
    assert [run.run_id for run in late.inspector.list_runs()] == [run_id]


def test_a_folder_keeps_its_id_when_it_moves_and_a_copy_gets_its_own(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    assert read_folder_id(folder) == ""
    first = ensure_folder_id(folder)
    assert ensure_folder_id(folder) == first
    folder.rename(tmp_path / "moved")
    assert read_folder_id(tmp_path / "moved") == first
    shutil.copytree(tmp_path / "moved", tmp_path / "a")  # of the moved folder, at the old place
    assert ensure_folder_id(tmp_path / "moved") != ensure_folder_id(tmp_path / "a")


def test_a_damaged_folder_id_is_told_with_its_file(shared, study):
    shared.put("alice", study)
    (shared.folder / "alice" / FOLDER_ID_FILE).write_text("[]")
    answer = shared.call("alice", "report", study.registration.study)
    assert answer.exit_code == 1
    assert str(shared.folder / "alice" / FOLDER_ID_FILE) in answer.output
    assert "--run RUN_ID" in answer.output


def test_the_beginning_of_an_id_that_fits_no_run_is_told(shared, study):
    shared.put("alice", study)
    name = study.registration.study
    with pytest.raises(TrackingError, match=f"^'zz' is no run of the study {name!r}"):
        shared.store("alice").reader.read_study(name, run_id="zz")
