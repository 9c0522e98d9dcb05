"""List an image folder: its classes, image files and ignored files."""

from __future__ import annotations

from pathlib import Path

from lightning_modules.data.types import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("test", "val")  # the first one that exists; ImageNet calls the images that results are reported on val


def list_images_by_class(root: Path) -> tuple[list[list[Path]], list[list[Path]]]:
    """List the training images and the test images of a folder, each by class.

    Raises:
        DataError: for a missing or empty folder, fewer than two classes, or test classes that are not trained on.
    """
    train = root / "train"
    test = root / "test" if (root / "test").is_dir() else root / "val"
    class_names = list_class_names(train)
    unknown_classes = sorted(set(list_class_names(test)) - set(class_names))
    if unknown_classes:
        raise DataError(f"{test} has classes that {train} has not: {', '.join(unknown_classes[:5])}.")
    train_images = [list_images(train / name) for name in class_names]
    test_images = [list_images(test / name) for name in class_names]
    return train_images, test_images


def flatten_groups(files_by_class: list[list[Path]]) -> list[Path]:
    """Join the files of all classes, class by class."""
    files: list[Path] = []
    for class_files in files_by_class:
        files += class_files
    return files


def list_all_images(root: Path) -> list[Path]:
    """List all images of a folder, those of training first."""
    train_images, test_images = list_images_by_class(root)
    return flatten_groups(train_images) + flatten_groups(test_images)


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
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry)))
    if len(names) < 2:
        listed = ", ".join(names) or "none"
        raise DataError(f"{folder} has {len(names)} classes ({listed}); expected two or more folders, one per class.")
    return names


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder, sorted by name.

    Raises:
        DataError: for a folder without images.
    """
    files = sorted(filter(_is_image, folder.iterdir())) if folder.is_dir() else []
    if not files:
        raise DataError(f"no images in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return files


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(file)


def _is_hidden(entry: Path) -> bool:
    # .DS_Store, .ipynb_checkpoints and the "._0.jpg" of macOS archives are nobody's images or classes.
    return entry.name.startswith(".")


def describe_folder_content(files: list[Path]) -> str:
    """Describe an image folder: formats, and number of other files."""
    format_names = sorted(set(map(image_format_name, files)))
    class_folders = {file.parent for file in files}
    num_others = sum(map(count_non_images, class_folders))
    ignored = f"; {num_others} other files left out" if num_others else ""
    return f"{', '.join(format_names)}{ignored}"


def count_non_images(folder: Path) -> int:
    """Count the entries of a class folder that are neither images nor hidden."""
    return sum(not _is_image(entry) and not _is_hidden(entry) for entry in folder.iterdir())


def image_format_name(file: Path) -> str:
    """Name an image file's format by its suffix: ``JPEG``."""
    suffix = file.suffix.lower()
    return "JPEG" if suffix in (".jpg", ".jpeg") else suffix[1:].upper()
