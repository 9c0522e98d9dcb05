"""Records of every schema so far open; those of any other one are refused in a line.

``schema_N.zip`` is `ablate export` of a study recorded under schema N: `lrn`, three seeds, fifteen epochs. These files
stay as they are. A version that raises the schema adds a file, and migrates the older ones, or says here that it
refuses them.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from lightning_modules.stored_files import CHECKSUM_KEY, dump_json
from studies.cli.app import main
from studies.records.results import RECORD_SCHEMA
from studies.storage.copies.archive import read_archived_record

FOLDER = Path(__file__).parent
STORED = sorted(FOLDER.glob("schema_*.zip"))
FIRST = FOLDER / "schema_1.zip"


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown


def test_there_is_a_stored_study_of_this_versions_schema():
    assert FOLDER / f"schema_{RECORD_SCHEMA}.zip" in STORED


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.stem)
def test_a_stored_study_opens(file):
    record = read_archived_record(file)
    assert record.registration.study == "lrn"
    assert [(trial.arm, trial.seed) for trial in record.trials] == [
        (arm, seed) for seed in range(3) for arm in ("A", "A-LRN")
    ]
    assert all(trial.result.status == "finished" for trial in record.trials)


@pytest.mark.slow
def test_the_verdicts_of_a_stored_study_stay_what_they_were(tmp_path):
    """Where a rule changes on purpose, these figures change with it, and CHANGELOG.md says so."""
    shown = json.loads(call("report", FIRST, "--runs", tmp_path, "--json").stdout)
    (report,) = shown["reports"]
    assert [claim["word"] for claim in report["claims"]] == ["inconclusive", "inconclusive", "supported"]
    (difference,) = report["differences"]
    assert difference["change"] == pytest.approx(-3.8150932887774984)
    assert (difference["low"], difference["high"]) == pytest.approx((-9.139907264300593, 1.5097206867455957))
    assert report["registration"]["digest"] == "f2d4f728b0b9c92c6343ca094e992fc7"
    assert report["registration"]["state"] == "intact"


@pytest.mark.slow
def test_a_stored_study_is_imported_and_nothing_is_trained_again(tmp_path):
    shown = json.loads(call("import", FIRST, "--runs", tmp_path, "--json").stdout)
    assert (shown["unpacked"], shown["logged"]) == (6, 6)


def with_schema(file, member, schema, target):
    """A copy of an archive of which one file says another schema, and all checksums fit."""
    with zipfile.ZipFile(file) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    about = json.loads(contents["archive.json"])
    names = [name for name in contents if name.endswith(member)]
    assert names
    for name in names:
        data = about if name == "archive.json" else json.loads(contents[name])
        has_checksum = data.pop(CHECKSUM_KEY, None)
        data |= {"schema": schema}
        contents[name] = dump_json(data) if has_checksum else json.dumps(data).encode()
        if name != "archive.json":
            checksum = hashlib.sha256(contents[name]).hexdigest()
            about["files"][name] = {"sha256": checksum, "bytes": len(contents[name])}
    contents["archive.json"] = json.dumps(about).encode()
    with zipfile.ZipFile(target, "w") as copy:
        for name, content in contents.items():
            copy.writestr(name, content)
    return target


@pytest.mark.parametrize(("schema", "age"), [(RECORD_SCHEMA + 1, "newer"), (0, "older")])
@pytest.mark.parametrize("member", ["archive.json", "record/record.json", "study.json"])
def test_another_schema_is_refused_in_one_line(member, schema, age, tmp_path):
    archive = with_schema(FIRST, member, schema, tmp_path / "other.zip")
    shown = call("import", archive, "--runs", tmp_path / "runs", code=2).output
    (line,) = shown.strip().splitlines()
    assert line.startswith("Error: ")
    assert f"was stored under schema {schema}, which is {age} than this version's" in line
