"""The docs' generated pages and pictures are what their commands make, and they name files that exist."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from studies.records.registration import Registration
from studies.records.results import Result
from studies.records.study_record import StudyStart

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", *DOCS.rglob("*.md")])
SOURCE_PATH = re.compile(r"`((?:lightning_modules|ablations|studies|reports|tests|docs|benchmarks)/[\w./]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_of_the_docs", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalogue():
    return load_script("catalogue")


def test_the_page_of_networks_is_the_catalogues(catalogue):
    assert (DOCS / "reference" / "networks.md").read_text(encoding="utf-8") == catalogue.networks()


def test_the_page_of_ablations_is_the_folders(catalogue):
    assert (DOCS / "reference" / "ablations.md").read_text(encoding="utf-8") == catalogue.catalogue()


def test_the_picture_of_the_packages_is_that_of_the_real_imports():
    """Where this fails after a change of modules or imports: ``python docs/architecture.py``."""
    picture = DOCS / "explanation" / "architecture.svg"
    assert picture.read_text(encoding="utf-8") == load_script("architecture").draw()


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site's own build name them."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    texts = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in texts}


# The changelog names files of earlier versions.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_pages_name_files_that_exist(page):
    named = set(SOURCE_PATH.findall(page.read_text(encoding="utf-8")))
    examples = {"ablations/momentum.py"}  # the file that readers are told to write
    assert {path for path in named - examples if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(page):
    dead = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


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
    text = (DOCS / "reference" / "record.md").read_text(encoding="utf-8")
    table = text[text.index(start) :].split("\n\n", 2)[1]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(field.name for field in fields(record))
