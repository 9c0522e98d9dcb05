"""Comments and docstrings name files, modules, functions and settings that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("lightning_modules", "ablations", "studies", "reports", "benchmarks", "docs", "examples", "tests")
SOURCES = {
    file: file.read_text(encoding="utf-8") for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))
}
QUOTED = re.compile(r"`+[^`\n]+`+")
FILE_NAME = re.compile(r"`[\w/]*?(\w+\.py)\b[^`\n]*`")
MODULE_PATH = re.compile(r"`~?((?:lightning_modules|ablations|studies|reports)(?:\.\w+)+)(?:\(\))?`")
NAME = re.compile(r"`(\w+_\w+)(?:\(\))?`")
FILES_OF_USERS = {"my_data.py", "my_ablation.py", "my_networks.py"}
# Of Python and torchvision, and an example.
NAMES_OF_OTHERS = {"__and__", "__eq__", "vgg16_bn", "norm_eps"}


def is_module_or_member(path):
    """Whether a dotted path is that of a module, or of a name that stands in one."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:length])
        for file in (folder.with_suffix(".py"), folder / "__init__.py"):
            if file in SOURCES:
                return length == len(parts) or re.search(rf"\b{parts[length]}\b", SOURCES[file]) is not None
    return False


def unknown_names(text, words):
    """What a text quotes by backticks and the repository does not have."""
    known_files = {file.name for file in SOURCES} | FILES_OF_USERS
    unknown = {name for name in FILE_NAME.findall(text) if name not in known_files}
    unknown |= {path for path in MODULE_PATH.findall(text) if not is_module_or_member(path)}
    return unknown | {name for name in NAME.findall(text) if name not in words | NAMES_OF_OTHERS}


def words_of_the_code():
    """All words that stand outside of backticks, and the names of modules."""
    words = {file.stem for file in SOURCES}
    for text in SOURCES.values():
        words.update(re.findall(r"\w+", QUOTED.sub("", text)))
    return words


def test_what_comments_and_docstrings_quote_is_there():
    words = words_of_the_code()
    unknown = {}
    for file, text in SOURCES.items():
        if file != Path(__file__) and (names := unknown_names(text, words)):
            unknown[file.relative_to(ROOT).as_posix()] = names
    assert unknown == {}


def test_a_name_that_is_gone_is_found():
    text = (
        "See `gone.py`, `tests/test_comments.py`, :func:`studies.settings.gone`, :mod:`studies.settings`, `gone_name`."
    )
    assert unknown_names(text, words={"test_comments"}) == {"gone.py", "studies.settings.gone", "gone_name"}
