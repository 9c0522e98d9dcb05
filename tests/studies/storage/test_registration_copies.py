"""The digest of a registration, its amendments, and the comparison of its copies."""

import json
from dataclasses import replace

import pytest

from ablations import DoesNotHelp
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.stored_files import dump_json
from reports.comparison.comparison import compare_arms
from reports.pages.gate_outcome import gate_comparison
from reports.renderers import html
from studies.design.declare import declare
from studies.execution.resources import Resources
from studies.maintenance.tracking_checks import check_tracking_store
from studies.records.registration_log import (
    RegistrationEntry,
    declaration_of,
    describe_changes,
    entry_from_json,
    entry_to_json,
)
from studies.records.serialization import registration_to_json
from studies.runner.context import prepare_study
from studies.runner.driver import _register_study, register_study
from studies.settings import Settings
from studies.storage.copies.registration import RegistrationCopy, check_registration, read_page_digests
from studies.storage.status_files import find_status_damage
from tests.reports.records import record, registration

STUDY_FOLDER = "depth-0123456789abcdef"
TIME = "2026-03-01T10:12:00+00:00"
ABLATION = '''"""Does momentum help?"""

from ablations import Ablation, Arm, Helps
from lightning_modules.catalogue import VGG_A

ABLATION = Ablation(
    question=__doc__,
    baseline=Arm("A", {"network": VGG_A, "recipe.momentum": 0.0}),
    arms=(Arm("B", {"network": VGG_A, "recipe.momentum": 0.9}),),
    varies=("recipe.momentum",),
    claims=(Helps(arm="B", over="A"),),
)
'''


def entry(declared, previous="", **fields):
    values = {"time": TIME, "user": "ada", "host": "lab", "num_planned": 20, "num_results": 0, "code": "c0de"}
    declaration = declaration_of(registration_to_json(declared))
    return RegistrationEntry(**{**values, **fields}, declaration=declaration, previous=previous)


REGISTRATION = registration()
ENTRY = entry(REGISTRATION)
AMENDED = replace(REGISTRATION, smallest_effect=0.3, seeds=(*REGISTRATION.seeds, 7))
AMENDMENT = entry(AMENDED, ENTRY.digest, num_results=3)
INTACT = RegistrationCopy(place="MLflow", registration=REGISTRATION, entries=(ENTRY,))


def in_folder(**fields):
    return replace(INTACT, place="the runs folder", **fields)


def test_the_digest_is_of_the_declaration_alone_and_survives_its_file():
    later = replace(REGISTRATION, registered="2027-01-01T00:00:00+00:00", num_planned=9, num_visible=9)
    assert (
        entry(later, user="bob", time="2027-01-01T00:00:00+00:00", code="other", num_results=2).digest == ENTRY.digest
    )
    assert entry(replace(REGISTRATION, question="Another?")).digest != ENTRY.digest
    assert entry_from_json(json.loads(json.dumps(entry_to_json(ENTRY)))) == ENTRY


def test_the_digest_of_an_amendment_covers_who_when_and_after_which_results():
    for fields in ({"user": "bob"}, {"time": "2026-03-02T10:12:00+00:00"}, {"num_results": 0}):
        assert entry(AMENDED, ENTRY.digest, **{"num_results": 3, **fields}).digest != AMENDMENT.digest
    assert entry(AMENDED, "another entry", num_results=3).digest != AMENDMENT.digest


@pytest.mark.parametrize("name", ["question", "smallest_effect", "claims", "seeds", "held", "data"])
def test_every_declared_field_is_in_the_digest(name):
    data = registration_to_json(REGISTRATION)
    text = json.dumps(data[name])
    position = next(index for index, character in enumerate(text) if character.isdigit() or character.isalpha())
    changed = {"1": "2"}.get(text[position], "1" if text[position].isdigit() else "X")
    edited = declaration_of({**data, name: json.loads(text[:position] + changed + text[position + 1 :])})
    assert replace(ENTRY, declaration=edited).digest != ENTRY.digest


def test_changes_are_told_in_words():
    claims = (DoesNotHelp(arm="B", over="A"),)
    changed = declaration_of(registration_to_json(replace(AMENDED, claims=claims, held={})))
    told = describe_changes(ENTRY.declaration, changed)
    assert "smallest effect from 0.5 to 0.3" in told
    assert "seed added: 7" in told
    assert "other held settings" in told
    assert f"claim added: {claims[0].sentence}" in told
    assert any(change.startswith("claim removed: ") for change in told)


@pytest.mark.parametrize(
    ("copies", "pages", "state", "told"),
    [
        ([INTACT, in_folder()], (ENTRY.digest,), "intact", "intact, made before any of 20 results"),
        (
            [
                replace(INTACT, registration=AMENDED, entries=(ENTRY, AMENDMENT)),
                in_folder(registration=AMENDED, entries=(ENTRY, AMENDMENT)),
            ],
            (ENTRY.digest,),  # of a page from before the amendment
            "amended",
            "amended after 3 of 20 results",
        ),
        ([INTACT, in_folder(registration=AMENDED)], (), "does not match", "smallest effect from 0.5 to 0.3"),
        ([INTACT, in_folder(entries=())], (), "does not match", "the runs folder holds no digest of it"),
        (
            [INTACT, in_folder(registration=AMENDED, entries=(entry(AMENDED),))],
            (),
            "does not match",
            f"the runs folder holds the registration {entry(AMENDED).digest}",
        ),
        (
            [replace(INTACT, registration=AMENDED, entries=(AMENDMENT,))],
            (),
            "does not match",
            "does not follow the one before it",
        ),
        ([INTACT, in_folder(damage="study.json is empty.")], (), "does not match", "(study.json is empty)"),
        ([INTACT, in_folder()], ("0" * 32,), "does not match", f"shows the digest {'0' * 32}"),
    ],
)  # fmt: skip
def test_copies_are_intact_amended_or_do_not_match(copies, pages, state, told):
    check = check_registration(STUDY_FOLDER, copies, pages)
    assert check.state == state
    assert any(told in text for text in (check.finding, *check.mismatches))
    cautions = compare_arms(record()).cautions
    with_check = compare_arms(replace(record(), registration_check=check)).cautions
    assert (len(with_check) > len(cautions)) is (state != "intact")


def test_a_study_of_an_earlier_version_has_no_check():
    assert check_registration(STUDY_FOLDER, [replace(INTACT, entries=()), in_folder(entries=())], ()) is None


def test_a_page_keeps_the_digest_that_does_not_match():
    check = check_registration(STUDY_FOLDER, [INTACT], ("0" * 32,))
    page = html.render_report(compare_arms(replace(record(), registration_check=check)), []).encode()
    assert list(read_page_digests(page, STUDY_FOLDER)) == ["0" * 32]
    assert list(read_page_digests(page, "depth-of another study")) == []
    assert f"does not match; digest {ENTRY.digest}" in page.decode()


def test_a_gate_judges_nothing_where_the_registration_does_not_match():
    matching, forged = (check_registration(STUDY_FOLDER, [INTACT], (digest,)) for digest in (ENTRY.digest, "0" * 32))
    study = replace(record(), registration_check=forged)
    outcome = gate_comparison(study, compare_arms(study))
    assert (outcome.word, outcome.exit_code) == ("not judged", 30)
    assert outcome.finding.startswith("the registration does not match: the report that was compiled before")
    study = replace(record(), registration_check=matching)
    assert gate_comparison(study, compare_arms(study)).word != "not judged"


@pytest.mark.slow
def test_a_study_is_registered_amended_and_compared(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(ABLATION, encoding="utf-8")
    settings = Settings.from_environment(tmp_path / "runs", None, None)
    first = prepare_study(declare(str(file), seeds=2), settings, Resources(), [].append)
    # As the file would be declared with another claim.
    second = replace(first, registration=replace(first.registration, claims=(DoesNotHelp(arm="B", over="A"),)))
    registered = register_study(first).registration_check
    assert registered.finding == "intact, made before any of 4 results"
    assert find_status_damage(settings) == []
    assert registered.places == ("MLflow", "the runs folder")
    assert register_study(first).registration_check == registered  # a second time changes nothing
    for amend in (False, True):
        fewer = []
        one_seed = replace(first.registration, seeds=(0,))
        kept = register_study(replace(first, registration=one_seed, log=fewer.append), amend=amend)
        assert (kept.registration_check, kept.registration.seeds) == (registered, (0, 1))
        assert any("stays registered with seed 1 as well: seeds are added" in line for line in fewer)
    with pytest.raises(InvalidValue, match=r"is registered otherwise.*claim removed: .*--amend"):
        register_study(second)
    news = []
    swapped = replace(first.registration, arms=("B", "A"))
    _register_study(replace(first, registration=swapped, log=news.append), "")
    (line,) = [line for line in news if "stays as it was registered" in line]
    assert "declared today: baseline from A to B (`ablate register` with --amend takes that up)" in line
    amended = register_study(second, amend=True)
    assert amended.registration_check.finding == "amended before any of 4 results"
    assert amended.registration_check.entries[0].digest == registered.digest
    assert [type(claim).__name__ for claim in amended.registration.claims] == ["DoesNotHelp"]
    assert any(text.startswith("The registration was amended by") for text in compare_arms(amended).cautions)
    # One character of one copy, its checksum computed again.
    (file,) = (tmp_path / "runs").glob("artifacts/**/registration.json")
    content = {
        name: value for name, value in json.loads(file.read_text(encoding="utf-8")).items() if name != "checksum"
    }
    file.write_bytes(dump_json({**content, "smallest_effect": content["smallest_effect"] + 1}))
    forged = first.store.reader.read_study("pair")
    assert gate_comparison(forged, compare_arms(forged)).exit_code == 30
    assert any("smallest effect from" in text for text in compare_arms(forged).cautions)
    (error,) = [check for check in check_tracking_store(settings) if check.level == "error"]
    assert (error.area, "smallest effect from" in error.finding) == ("registration", True)
