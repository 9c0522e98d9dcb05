"""Hooks of the site's build (mkdocs.yml): links that leave docs/, the page of commands, and that of the notebook.

Pages are written to be read in the repository as well. Their links to files outside of docs/, such as examples, are
links to copies below ``repository/`` on the site; pages among these files are rendered.
"""

from __future__ import annotations

import html
import importlib
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
COPIES = "repository"
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?\)")
ESCAPED = re.compile(r"\\([&<~])")  # escapes of GitHub's Markdown that the site's does not know
NOTEBOOK = "docs/tutorial.ipynb"
NOTEBOOK_PAGE = "docs/notebook.md"  # made from the notebook: there is no such file
COMMANDS_PLACE = "<!-- the commands: docs/reference.py renders them -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebook's page, the files outside of docs/ that pages link to, and those that these link to in turn."""
    files.append(File.generated(config, _uri(NOTEBOOK_PAGE), content=_read_page(NOTEBOOK_PAGE)))
    waiting = [*(f"docs/{file.src_uri}" for file in files.documentation_pages()), *_pages_of_nav(config.nav)]
    seen = set(waiting)
    while waiting:
        place = waiting.pop()
        if not place.startswith("docs/"):
            uri = f"{COPIES}/{place}"
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / place)))
        if place.endswith(".md"):
            new = set(_linked_files(place)) - seen
            seen |= new
            waiting += new
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to where files lie on the site; render the commands on their page."""
    place = _place(page.file.src_uri)

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link[2]))
        uri = posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"{link[1]}{uri}{link[3] or ''})"

    if COMMANDS_PLACE in markdown:
        markdown = markdown.replace(COMMANDS_PLACE, _import_script("reference").commands())
    return ESCAPED.sub(lambda escaped: html.escape(escaped[1]), LINK.sub(lead, markdown))


def _pages_of_nav(nav: object) -> Iterator[str]:
    """Places of the pages outside of docs/ that the navigation names."""
    if isinstance(nav, str):
        if nav.startswith(f"{COPIES}/"):
            yield nav.removeprefix(f"{COPIES}/")
        return
    entries = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ()
    for entry in entries:
        yield from _pages_of_nav(entry)


def _linked_files(place: str) -> Iterator[str]:
    """Places in the repository of the files outside of docs/ to which a page links."""
    for _, link, _ in LINK.findall(_read_page(place)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link))
        if not target.startswith(("docs/", "..")) and (ROOT / target).is_file():
            yield target


def _read_page(place: str) -> str:
    if place == NOTEBOOK_PAGE:
        return str(_import_script("notebook_page").render_page())
    return (ROOT / place).read_text(encoding="utf-8")


def _import_script(name: str) -> ModuleType:
    """Import a module of docs/, which is no package."""
    if str(DOCS) not in sys.path:
        sys.path.insert(0, str(DOCS))
    return importlib.import_module(name)


def _place(uri: str) -> str:
    """The place in the repository of a file of the site."""
    return uri.removeprefix(f"{COPIES}/") if uri.startswith(f"{COPIES}/") else f"docs/{uri}"


def _uri(place: str) -> str:
    """The file of the site that is a file of the repository; of the notebook, its page."""
    if place == NOTEBOOK:
        place = NOTEBOOK_PAGE
    return place.removeprefix("docs/") if place.startswith("docs/") else f"{COPIES}/{place}"
