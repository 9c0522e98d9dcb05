"""What the docs print is what their commands make."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("catalogue_of_the_docs", DOCS / "catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_networks_is_the_catalogues(generator):
    assert (DOCS / "networks.md").read_text(encoding="utf-8") == generator.networks()


def test_the_page_of_ablations_is_the_folders(generator):
    assert (DOCS / "ablations.md").read_text(encoding="utf-8") == generator.catalogue()
