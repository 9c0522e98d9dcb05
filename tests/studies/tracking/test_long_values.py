"""Values beyond MLflow's limits: seeds stay readable, names and tags are cut where one sees it."""

import json
import random
from dataclasses import replace

import pytest

from studies.design.study import MAX_NUM_SEEDS
from studies.records.serialization import seeds_from_text, seeds_to_text
from studies.settings import Settings
from studies.tracking.runs import MAX_RUN_NAME_LENGTH, MAX_TAG_LENGTH
from studies.tracking.store import open_store
from tests.reports import golden


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(Settings.from_environment(tmp_path_factory.mktemp("long")))


@pytest.mark.parametrize("seeds", [(), (3,), (0, 1, 7), tuple(range(1700)), (0, *range(5, 900), 4_000_000_000)])
def test_seeds_are_read_as_written(seeds):
    text = seeds_to_text(seeds, MAX_TAG_LENGTH)
    assert seeds_from_text(text) == seeds
    assert len(text) <= 1000


def test_a_short_list_is_the_json_of_earlier_versions():
    assert json.loads(seeds_to_text((0, 1, 2), MAX_TAG_LENGTH)) == [0, 1, 2]
    assert seeds_to_text(range(1700), MAX_TAG_LENGTH) == "0-1699"


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", ()),
        ("many", ()),
        ("[0, 1, 2, 3, 4", (0, 1, 2, 3)),  # an earlier version's, cut by MLflow: the last number may be a part
        ("0, x, 2-3", (0, 2, 3)),
        ("5-2", ()),
        ("-1", ()),
    ],
)
def test_what_is_no_seed_is_left_out(text, seeds):
    assert seeds_from_text(text) == seeds


def test_a_range_is_bounded():
    assert len(seeds_from_text("0-9999999999")) <= MAX_NUM_SEEDS + 1


@pytest.mark.parametrize("tag", [None, "many", "[0, 1, 2, 3"])
def test_a_study_of_very_many_seeds_is_registered_reopened_and_read(store, tag):
    record = golden.read("healthy")
    # Scattered seeds of ten digits exceed the tag even as ranges.
    seeds = tuple(sorted(random.Random(0).sample(range(10**9, 4 * 10**9), 1700)))
    long_text = "why? " * 3000
    registration = replace(record.registration, study=f"many-{tag}".strip("[]"), seeds=seeds, question=long_text)
    tags = {"study": registration.study, "protocol": "digits", "revision": "0", "mlflow.source.name": long_text}
    run_id = store.writer.register_study(registration, "c0", tags)
    assert store.writer.register_study(registration, "c0", tags) == run_id
    if tag:
        store.runs.client.set_tag(run_id, "seeds", tag)
    store.writer.add_seeds(run_id, (7,))
    found = store.reader.read_study(registration.study, run_id=run_id)
    assert found.registration.seeds == (*((0, 1, 2) if tag == "[0, 1, 2, 3" else ()), 7, *seeds)
    assert found.registration.question == long_text
    run = store.runs.client.get_run(run_id)
    assert all(len(value) <= MAX_TAG_LENGTH for value in run.data.tags.values())
    assert run.data.tags["mlflow.source.name"].endswith(" …")


def test_a_long_name_is_cut_visibly(store):
    experiment = store.runs.ensure_experiment("names")
    run = store.runs.create_run(experiment, "n" * 1000, {"study": "names"})
    assert len(run.info.run_name) <= MAX_RUN_NAME_LENGTH
    assert run.info.run_name.endswith(" …")
