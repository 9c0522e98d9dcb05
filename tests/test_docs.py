"""The docs' generated pages and pictures are what their commands make, and they name files that exist."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from studies.records.registration import Registration
from studies.records.results import Result
from studies.records.study_record import StudyStart

DOCS = Path(__file__).parent.parent / "docs"
SOURCE_PATH = re.compile(r"`((?:lightning_modules|ablations|studies|reports|tests|docs|benchmarks)/[\w./]*)`")


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_of_the_docs", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalogue():
    return load_script("catalogue")


def test_the_page_of_networks_is_the_catalogues(catalogue):
    assert (DOCS / "networks.md").read_text(encoding="utf-8") == catalogue.networks()


def test_the_page_of_ablations_is_the_folders(catalogue):
    assert (DOCS / "ablations.md").read_text(encoding="utf-8") == catalogue.catalogue()


def test_the_picture_of_the_packages_is_that_of_the_real_imports():
    """Where this fails after a change of modules or imports: ``python docs/architecture.py``."""
    assert (DOCS / "architecture.svg").read_text(encoding="utf-8") == load_script("architecture").draw()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "AGENTS.md", *sorted(f"docs/{file.name}" for file in DOCS.glob("*.md"))]
)
def test_pages_name_files_that_exist(page):
    root = DOCS.parent
    named = set(SOURCE_PATH.findall((root / page).read_text(encoding="utf-8")))
    examples = {"ablations/momentum.py"}  # the file that the README has its readers write
    assert {path for path in named - examples if not (root / path).exists()} == set()


@pytest.mark.parametrize(
    ("record", "start"),
    [
        (Registration, "Of `registration.json`"),
        (StudyStart, "Of `starts/*.json`"),
        (Result, "Of a trial's `result.json`"),
    ],
)
def test_every_field_of_the_record_is_described(record, start):
    """One table per record; its first column names all fields of the record, and nothing else."""
    text = (DOCS / "record.md").read_text(encoding="utf-8")
    table = text[text.index(start) :].split("\n\n", 2)[1]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(field.name for field in fields(record))
