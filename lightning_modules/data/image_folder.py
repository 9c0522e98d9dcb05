"""List an image folder: classes, image files, and what is left out or suspicious."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lightning_modules.data.types import DataError
from lightning_modules.specs.text import format_count, join_clauses, printable_path

# Pillow's names of the formats that a file of a suffix may have; MPO is a JPEG followed by further pictures, and "PPM"
# stands for the whole family of portable maps.
FORMATS_BY_SUFFIX = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".jpe": ("JPEG", "MPO"),
    ".jfif": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".pbm": ("PPM",),
    ".pgm": ("PPM",),
    ".pnm": ("PPM",),
    ".ppm": ("PPM",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}
IMAGE_SUFFIXES = tuple(FORMATS_BY_SUFFIX)
MAX_LISTED_ERRORS = 10  # bad files named in a message; a file beside the index names them all
# Their inodes may change at each mount, or sooner: all images would be read again by each trial.
FILE_SYSTEMS_OF_UNSTABLE_INODES = ("fuse", "vfat", "exfat", "msdos", "cifs", "smb3", "9p")
TEST_FOLDERS = ("test", "val")  # the first one that exists; ImageNet calls the images that results are reported on val


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The listing of an image folder.

    Attributes:
        root: the folder.
        class_names: of the training split, sorted; their positions are the class indices.
        train_files, test_files: image files by class, in the order of the class names.
        test_folder: the folder of the test split.
        ignored_entries: entries that are no images of a class, relative to the root, each with the reason.
    """

    root: Path
    class_names: tuple[str, ...]
    train_files: tuple[tuple[Path, ...], ...]
    test_files: tuple[tuple[Path, ...], ...]
    test_folder: Path
    ignored_entries: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All image files, those of training first."""
        return flatten_groups(self.train_files) + flatten_groups(self.test_files)

    def require_classes(self, num_classes: int) -> None:
        """Check the number of classes against the protocol's.

        Raises:
            DataError: for another number.
        """
        require_class_count(self.root, self.class_names, num_classes)

    def describe_formats(self) -> str:
        """Name the formats of the image files: ``JPEG, PNG``."""
        suffixes = {file.suffix.lower() for file in self.files}
        return ", ".join(sorted({_format_name(suffix) for suffix in suffixes}))

    def describe_ignored(self) -> list[str]:
        """Describe the ignored entries in one line, if there are any."""
        if not self.ignored_entries:
            return []
        entries = format_count(len(self.ignored_entries), "entry", "entries")
        return [f"{entries} ignored: {join_clauses(self.ignored_entries)}"]


def list_image_folder(root: Path) -> ImageFolder:
    """List ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``).

    Raises:
        DataError: for a missing or empty folder, fewer than two classes, or test classes that are not trained on.
    """
    train = root / "train"
    class_names = list_class_names(train)
    test = find_test_folder(root)
    unknown_classes = sorted(set(list_class_names(test)) - set(class_names))
    if unknown_classes:
        raise DataError(
            f"{test} has classes that {train} has not: {join_clauses(unknown_classes)}. Expected the same class names "
            "in both: images are labeled by the name of their folder."
        )
    ignored = _ignored_split(root, test)
    groups: dict[Path, list[tuple[Path, ...]]] = {train: [], test: []}
    for split, files_by_class in groups.items():
        ignored += _entries_beside_classes(root, split)
        for name in class_names:
            files, others = _scan_class_folder(root, split / name)
            files_by_class.append(files)
            ignored += others
    return ImageFolder(
        root=root,
        class_names=class_names,
        train_files=tuple(groups[train]),
        test_files=tuple(groups[test]),
        test_folder=test,
        ignored_entries=tuple(ignored),
    )


def find_test_folder(root: Path) -> Path:
    """Return ``<root>/test`` or, without such a folder, ``<root>/val``.

    Raises:
        DataError: where there is neither.
    """
    for name in TEST_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has neither test/<class>/ nor val/<class>/; expected one of them, with images.")


def list_class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of a folder's subfolders, one per class, sorted.

    Raises:
        DataError: for a missing folder, or fewer than two classes.
    """
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}. Expected train/<class>/ and test/<class>/ (or val/<class>/) with images below "
            f"--data-root {folder.parent}."
        )
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name)))
    if len(names) < 2:
        listed = ", ".join(names) or "none"
        classes = format_count(len(names), "class", "classes")
        raise DataError(f"{folder} has {classes} ({listed}); expected two or more folders, one per class.")
    for name in names:
        if printable_path(name) != name:
            raise DataError(
                f"{folder} has a class folder whose name is not UTF-8: {printable_path(name)}. Rename it: results are "
                "recorded under the names of the classes."
            )
    return names


def require_class_count(root: Path, class_names: Sequence[str], num_classes: int) -> None:
    """Check the number of a folder's classes against the protocol's.

    Raises:
        DataError: for another number.
    """
    if len(class_names) != num_classes:
        raise DataError(
            f"the image folder {root} has {len(class_names)} classes, but the protocol says {num_classes}. "
            f"Give `--set scale.classes={len(class_names)}`, or another --data-root."
        )


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a class folder, sorted by name.

    Raises:
        DataError: for a folder without images.
    """
    files, _ = _scan_class_folder(folder.parent.parent, folder)
    return list(files)


def relative_name(path: Path, root: Path) -> str:
    """A path relative to a folder, as text that can be stored."""
    return printable_path(path.relative_to(root))


def flatten_groups(files_by_class: Sequence[Sequence[Path]]) -> list[Path]:
    """Join the files of all classes, class by class."""
    files: list[Path] = []
    for class_files in files_by_class:
        files += class_files
    return files


def file_stamp(file: Path) -> str:
    """Return what changes with the content of a file, without reading it; of a link, its target as well.

    Sizes and times of modification may be equal: two bitmaps that were unpacked together may have been swapped, by
    themselves or with their folders, or one rewritten with its time restored. The inode tells files apart, and the time
    of the last change of status cannot be set. A file that cannot be examined, such as a broken link, has a stamp of
    its own.
    """
    try:
        status = file.stat()
        # Unpacked together, two targets may have equal sizes and times.
        target = f"|{printable_path(file.resolve())}" if file.is_symlink() else ""
    except OSError:
        return "unreadable"
    inode = status.st_ino if _has_stable_inodes(status.st_dev) else ""
    return f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{inode}{target}"


@cache
def _has_stable_inodes(device: int) -> bool:
    """Whether a file keeps its inode for good, as everywhere but on some file systems that make numbers up.

    Args:
        device: of the file.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # no Linux
        return True
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    # See proc(5): the third field is the device, and the type of the file system follows a hyphen.
    types = [line.partition(b" - ")[2].decode() for line in mounts if line.split()[2] == number]
    return not any(name.startswith(FILE_SYSTEMS_OF_UNSTABLE_INODES) for name in types)


def describe_duplicates(folder: ImageFolder, digests: Mapping[Path, str]) -> list[str]:
    """Describe images of equal content, a line for each kind of duplicate.

    Images in both splits leak the test split into training. Images under two labels contradict each other.

    Args:
        digests: of the files' bytes; files without one are left out.
    """
    occurrences: dict[str, list[tuple[Path, str, str]]] = {}
    for split, files_by_class in ((folder.root / "train", folder.train_files), (folder.test_folder, folder.test_files)):
        for class_name, files in zip(folder.class_names, files_by_class, strict=True):
            for file in files:
                if digests.get(file):
                    occurrences.setdefault(digests[file], []).append((file, split.name, class_name))
    across_splits: list[str] = []
    across_labels: list[str] = []
    repeated: list[str] = []
    for same in occurrences.values():
        if len(same) < 2:
            continue
        names = " = ".join(relative_name(file, folder.root) for file, _, _ in same[:3])
        if len({split for _, split, _ in same}) > 1:
            across_splits.append(names)
        if len({class_name for _, _, class_name in same}) > 1:
            across_labels.append(names)
        if len({(split, class_name) for _, split, class_name in same}) == 1:
            repeated.append(names)
    findings = (
        (across_splits, f"in both train/ and {folder.test_folder.name}/"),
        (across_labels, "under two labels"),
        (repeated, "repeated within a class"),
    )
    return [f"{format_count(len(names), 'image')} {where}: {join_clauses(names)}" for names, where in findings if names]


def list_bad_files(folder: ImageFolder, errors: Mapping[Path, str]) -> tuple[str, ...]:
    """List the bad files of a folder, each with what is wrong with it."""
    return _name_errors(folder, folder.files, errors)


def _name_errors(folder: ImageFolder, files: Sequence[Path], errors: Mapping[Path, str]) -> tuple[str, ...]:
    return tuple(f"{relative_name(file, folder.root)}: {errors[file]}" for file in files if errors[file])


def refuse_bad_files(folder: ImageFolder, errors: Sequence[str], where: str = "") -> None:
    """Refuse a folder with bad files.

    Args:
        errors: see :func:`list_bad_files`.
        where: where all of them are listed.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"{len(errors)} of {len(folder.files):,} images at {folder.root} are bad: "
        f"{join_clauses(errors, MAX_LISTED_ERRORS)}{where}. "
        "Fix or remove them, or give `--set data.bad_files='leave out'`."
    )


def require_readable_images(folder: ImageFolder, errors: Mapping[Path, str]) -> None:
    """Check that both splits, and every class of the training split, have a readable image.

    Args:
        errors: what is wrong with each file; empty for a good one.

    Raises:
        DataError: where one has none.
    """
    groups: dict[str, Sequence[Path]] = {
        "training image": flatten_groups(folder.train_files),
        "test image": flatten_groups(folder.test_files),
    }
    for name, class_files in zip(folder.class_names, folder.train_files, strict=True):
        groups[f"training image of class {name}"] = class_files
    for description, files in groups.items():
        if all(errors[file] for file in files):
            listed = join_clauses(_name_errors(folder, files, errors), MAX_LISTED_ERRORS)
            raise DataError(f"no {description} at {folder.root} can be read: {listed}.")


def append_findings(origin: str, errors: Sequence[str], notices: Sequence[str]) -> str:
    """Append bad files and notices to the description of a folder."""
    if errors:
        origin += f"; {len(errors):,} bad files left out: {join_clauses(errors, MAX_LISTED_ERRORS)}"
    return "; ".join([origin, *notices])


def _ignored_split(root: Path, test: Path) -> list[str]:
    """Name a ``val/`` beside ``test/``."""
    if test.name == "test" and (root / "val").is_dir():
        return ["val/ (test/ is the test split, and validation images are drawn from train/)"]
    return []


def _entries_beside_classes(root: Path, split: Path) -> list[str]:
    return [
        f"{relative_name(entry, root)} (not in a class folder)"
        for entry in sorted(split.iterdir())
        if not entry.is_dir() and not _is_hidden(entry.name)
    ]


def _scan_class_folder(root: Path, folder: Path) -> tuple[tuple[Path, ...], list[str]]:
    """Return the image files of a class folder, and its other entries with the reason why they are ignored.

    Broken links with an image's suffix are image files: they are bad ones.

    Raises:
        DataError: for a folder without images.
    """
    images: list[Path] = []
    ignored: list[str] = []
    has_subfolder = False
    # scandir knows what is a folder without a system call for each of a million files.
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else []
    for entry in entries:
        path = folder / entry.name
        if _is_hidden(entry.name):  # .DS_Store, .ipynb_checkpoints and the "._0.jpg" of macOS archives
            continue
        if entry.is_dir():
            has_subfolder = True
            ignored.append(f"{relative_name(path, root)}/ (a folder within a class)")
        elif path.suffix.lower() in FORMATS_BY_SUFFIX:
            images.append(path)
        else:
            ignored.append(f"{relative_name(path, root)} (not an image by its extension)")
    if not images:
        nested = "; folders within a class are not read" if has_subfolder else ""
        raise DataError(f"no images in {folder}{nested}; expected files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return tuple(images), ignored


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _format_name(suffix: str) -> str:
    """Name a format by a suffix: ``JPEG``."""
    return "JPEG" if "JPEG" in FORMATS_BY_SUFFIX[suffix] else suffix[1:].upper()
