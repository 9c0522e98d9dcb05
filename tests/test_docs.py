"""The docs: generated pages are what their commands make, links lead somewhere, and the site builds offline."""

import ast
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest

import reports
import studies
from studies.cli.app import main as program
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


def find_exit_codes():
    """The values of all constants ``EXIT_…`` of the packages, and those after a signal that ends a command."""
    codes = {128 + signal.SIGTERM, 128 + signal.SIGHUP}
    for file in [*(ROOT / "studies").rglob("*.py"), *(ROOT / "reports").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
                if names and all(name.startswith("EXIT_") for name in names):
                    numbers = [item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)]
                    codes |= {number for number in numbers if isinstance(number, int)}
    return codes


def test_the_table_of_exit_codes_holds_every_one_that_the_code_defines():
    page = (DOCS / "howto" / "operations.md").read_text(encoding="utf-8")
    rows = page.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", rows, re.MULTILINE) for code in cell.split(",")}
    assert {1, 2, 3, 10, 30, 130} <= find_exit_codes()
    assert listed == find_exit_codes() | {0}


def test_the_picture_of_the_packages_is_that_of_the_real_imports():
    """Where this fails after a change of modules or imports: ``python docs/architecture.py``."""
    picture = DOCS / "explanation" / "architecture.svg"
    assert picture.read_text(encoding="utf-8") == load_script("architecture").draw()


@pytest.mark.parametrize("page", ["settings", "claims", "protocols"])
def test_the_reference_is_that_of_the_code(page):
    """Where this fails after a change of a spec, claim or protocol: ``python docs/reference.py``."""
    assert (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8") == load_script("reference").PAGES[page]()


def test_every_option_of_every_command_is_in_the_reference():
    text, context = load_script("reference").commands(), click.Context(program, info_name="ablate")
    for name in program.list_commands(context):
        section = text[text.index(f"## `ablate {name}`") :]
        section = section[: section.find("\n## ", 1)]
        for parameter in program.get_command(context, name).params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert f"`{parameter.opts[0]}" in section or f" {parameter.opts[0]}" in section, (name, parameter.name)


def test_every_public_name_has_its_signature_on_the_page():
    named = re.findall(
        r"^::: [\w.]+\.(\w+)$", (DOCS / "reference" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {*studies.__all__, *reports.__all__} - {"protocols"} <= set(named)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site's own build name them."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    texts = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in texts}


def missing_files(page):
    """Paths of the repository that a page names and that are not there."""
    named = set(SOURCE_PATH.findall(page.read_text(encoding="utf-8")))
    examples = {"ablations/momentum.py"}  # the file that readers are told to write
    return {path for path in named - examples if not (ROOT / path).exists()}


def dead_links(page):
    dead = set()
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.add(link)
    return dead


def lists_within_paragraphs(page):
    """Items of lists that begin without an empty line, which the site's Markdown takes for text, unlike GitHub's."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    items = set()
    for paragraph in text.split("\n\n"):
        first, *others = paragraph.strip("\n").splitlines() or [""]
        if not re.match(r" *([-*]|\d+\.) |    ", first):
            items.update(line for line in others if re.match(r" *([-*]|\d+\.) ", line))
    return items


def found_on_pages(find, pages=PAGES):
    """By page, what a function finds there."""
    return {name_of(page): found for page in pages if (found := find(page))}


def test_pages_name_files_that_exist():
    """The changelog names files of earlier versions."""
    assert found_on_pages(missing_files, [page for page in PAGES if page.name != "CHANGELOG.md"]) == {}


def test_links_lead_to_files_and_headings_that_exist():
    assert found_on_pages(dead_links) == {}


def test_lists_begin_after_an_empty_line():
    assert found_on_pages(lists_within_paragraphs) == {}


@pytest.mark.parametrize(
    ("find", "text", "found"),
    [
        (missing_files, "See `studies/nowhere/` and `studies/settings.py`.", {"studies/nowhere/"}),
        (dead_links, "[a](nowhere.md), [b](#missing), [c](#here)\n\n## Here\n", {"nowhere.md", "#missing"}),
        (lists_within_paragraphs, "text\n- item\n\n- list\n- list\n", {"- item"}),
    ],
)
def test_faults_of_a_page_are_found(find, text, found, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert find(page) == found


def test_every_page_is_in_the_navigation_of_the_site():
    """The pages of single results are not: the index of the results links to them."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if not page.match("results/*-*.md")}
    pages.add("notebook.md")  # made from the notebook
    assert {page for page in re.findall(r"[\w/.-]+\.md", navigation) if not page.startswith("repository/")} == pages


def test_the_page_of_the_notebook_has_its_cells_and_what_they_show():
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    page = load_script("notebook_page").render_page()
    assert page.count("```python\n") == len(code)
    assert page.count('<div class="output">') >= len(code)
    assert "\x1b" not in page


def test_ablations_of_the_pages_are_accepted():
    """A study's file that a reader copies from a page is declared, and keeps the one-change contract."""
    for page in PAGES:
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            if "ABLATION = " in code:
                names = {}
                exec(f"from __future__ import annotations\n{code}" if '"""' not in code else code, names)
                assert names["ABLATION"].arms


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path):
    """After its installation, word for word, but for one epoch under two seeds."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, arguments in {"ablate": "-m studies.cli", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ABLATE", "MLFLOW", "RAY"))
    }
    environment |= {"HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    _, *blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    printed, codes = "", {}
    for line in "".join(blocks).splitlines()[1:]:  # the first makes the folder, which here is tmp_path
        command = re.sub(r"(ablate (?:register|run) \S+)", r"\1 --seeds 2 --set recipe.epochs=1", line)
        ended = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        codes[line], printed = ended.returncode, printed + ended.stdout + ended.stderr
    assert codes.pop("ablate check ./broken.py") == 1
    assert codes.pop("ablate gate momentum") in (0, 10, 11, 20, 30)  # 30: one epoch teaches nothing to judge
    assert {line for line, code in codes.items() if code} == set(), printed
    assert "may vary only recipe.momentum, but it also changes\n  recipe.learning_rate: 0.01 -> 0.1" in printed
    assert re.search(r"digest [0-9a-f]{32}", printed)


@pytest.mark.slow
def test_the_site_is_built_offline_and_loads_nothing_from_elsewhere(tmp_path):
    """Strict: dead links, missing anchors, and pages outside of the navigation are errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Building documentation" in built.stderr  # with --quiet, mkdocs counts no warnings, and nothing is strict
    assert (built.returncode, "WARNING" in built.stderr) == (0, False), built.stderr
    for page in tmp_path.rglob("*.html"):
        assert re.findall(r'<(?:script|img|iframe|source)[^>]* src="?https?:', page.read_text(encoding="utf-8")) == []
        assert re.findall(r'<link[^>]* href="?https?:', page.read_text(encoding="utf-8")) == []
    commands = (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="ablate-{name}"' in commands for name in program.list_commands(click.Context(program)))
    notebook = (tmp_path / "notebook.html").read_text(encoding="utf-8")
    assert 'class="ablate-view"' in notebook
    assert "data:image/png;base64," in notebook
    assert 'href="notebook.html"' in (tmp_path / "tutorial.html").read_text(encoding="utf-8")
    assert (tmp_path / "tutorial.ipynb").exists()


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


def run_register(folder, *arguments):
    """What `ablate register` prints, in a folder of its own."""
    command = [sys.executable, "-m", "studies.cli", "register", *arguments, "--runs", str(folder / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_digests_that_the_docs_print_are_those_of_this_version(tmp_path):
    explanation = (DOCS / "explanation" / "registration.md").read_text(encoding="utf-8")
    printed = re.search(r"digest ([0-9a-f]{32})", explanation)[1]
    assert printed in run_register(tmp_path, "depth", "--seeds", "8")
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", tutorial, re.DOTALL)
    (ablation,) = (block for block in blocks if "ABLATION" in block)
    (tmp_path / "momentum.py").write_text(ablation, encoding="utf-8")
    digests = re.findall(r"digest ([0-9a-f]{32})", tutorial)
    assert len(digests) == 2
    shown = run_register(tmp_path, "./momentum.py")
    assert all(digest in shown for digest in digests), shown
