"""`ablate doctor --deep`: a sound folder is said to be sound, and each damaged file is one error with its path."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from lightning_modules.stored_files import dump_json
from studies.maintenance.deep_checks import check_stored_artifacts, check_stored_content
from studies.settings import Settings
from studies.storage.lease import LeaseHolder
from studies.storage.search_journal import add_checksum

pytestmark = pytest.mark.xdist_group("one recorded study")


@pytest.fixture
def settings(copied):
    return Settings.from_environment(copied.runs)


@pytest.fixture
def folders(copied):
    """Folders of the trials, by name."""
    return sorted((copied.runs / "trials").iterdir())


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def errors(findings):
    """Texts of the errors, all findings being errors."""
    assert {finding.level for finding in findings} == {"error"}
    return [finding.finding for finding in findings]


def test_a_sound_folder_is_one_line(settings):
    (content,) = check_stored_content(settings)
    assert (content.level, content.finding) == ("ok", "the files of 8 trials agree with their checksums and plans")
    (artifacts,) = check_stored_artifacts(settings)
    assert (artifacts.level, artifacts.finding) == ("ok", "the artifacts of 9 runs agree with their checksums and tags")


def test_each_damaged_file_of_a_trial_is_one_error_with_its_path_and_a_remedy(settings, folders):
    files = [
        folders[0] / "weights.pt",
        folders[1] / "attempts.jsonl",
        folders[2] / "progress.json",
        folders[3] / "lease-000001.json",
        folders[4] / "checkpoint.ckpt",
    ]
    flip(files[0])
    files[1].write_bytes(b"\xff\xfe{}\n")
    files[2].write_text("[]")
    files[3].write_bytes(dump_json(vars(replace(LeaseHolder.of_this_process(), born="1")))[:-9])
    torch.save([1, 2, 3], files[4])
    findings = list(check_stored_content(settings))
    assert len(findings) == len(files)
    for file, text in zip(files, errors(findings), strict=True):
        assert text.startswith(str(file))
    assert all(finding.advice for finding in findings)


def test_a_log_that_is_gone_from_an_ended_trial_is_told(settings, folders):
    (folders[0] / "attempts.jsonl").unlink()
    (text,) = errors(list(check_stored_content(settings)))
    assert text.startswith(str(folders[0] / "attempts.jsonl"))


def test_weights_that_were_freed_are_no_damage(settings, folders):
    (folders[0] / "weights.pt").unlink()
    sound, absent = check_stored_content(settings)
    assert (sound.level, absent.level) == ("ok", "ok")
    assert "agree with their checksums" in sound.finding
    assert absent.finding.startswith("1 of 8 trials have no weights here, as after `ablate gc --weights`")


def test_a_lost_result_is_told_and_one_of_an_interrupted_trial_is_not(settings, folders):
    result = folders[0] / "result.json"
    result.unlink()
    (text,) = errors(list(check_stored_content(settings)))
    assert text == f"{result} cannot be used: it is missing, though its predictions are here"
    shutil.copy(folders[1] / "weights.pt", folders[0] / "checkpoint.ckpt")
    (text,) = errors(list(check_stored_content(settings)))
    assert text.startswith(str(folders[0] / "checkpoint.ckpt"))


def test_a_result_that_its_plan_contradicts_is_told(settings, folders):
    file = folders[0] / "result.json"
    data = json.loads(file.read_bytes())
    del data["checksum"]
    data["metrics"]["test_error"] = round(data["metrics"]["test_error"] / 2, 3)
    file.write_bytes(dump_json(data))
    (text,) = errors(list(check_stored_content(settings)))
    assert text.startswith(str(file))
    assert "but its predictions are wrong for" in text


def test_a_damaged_journal_of_a_search_is_told(settings):
    journal = settings.runs_folder / "tuning" / "search.log"
    journal.parent.mkdir()
    line = json.dumps(add_checksum({"op_code": 0, "study_name": "A"})).encode() + b"\n"
    journal.write_bytes(2 * line)
    (sound,) = check_stored_content(settings)
    assert sound.level == "ok"
    for content, reason in (
        (line + line.replace(b'"A"', b'"B"'), "line 2: its checksum does not match its content"),
        (line + b'{"op_code":0}\n', "line 2: it has no checksum"),
        (line + line[:-5], "its last line was cut off"),
        (b"", "it holds no line"),
    ):
        journal.write_bytes(content)
        (text,) = errors(list(check_stored_content(settings)))
        assert text == f"{journal} cannot be used: {reason}"


def test_a_damaged_artifact_is_one_error_and_all_others_are_still_read(settings, copied):
    first, second = sorted((copied.runs / "artifacts").glob("depth/*/artifacts/predictions.npy"))[:2]
    flip(first)
    second.unlink()
    texts = errors(list(check_stored_artifacts(settings)))
    assert len(texts) == 2
    assert {str(file) for file in (first, second) if any(str(file) in text for text in texts)} == {
        str(first),
        str(second),
    }


def test_a_folder_without_a_store_has_no_artifacts_to_check(tmp_path):
    assert list(check_stored_artifacts(Settings.from_environment(tmp_path))) == []
