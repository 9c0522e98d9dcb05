"""Execute the tutorial notebook and write it back: ``python docs/tutorial.py``.

Takes about a minute on two cores. The notebook is its own source: edit it in Jupyter, then run this. It is executed in
an empty folder, so that no path of a machine and no earlier result gets into it.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
SECONDS_PER_CELL = 900


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Execute all cells in a folder, in a new kernel; an error of a cell that is not tagged for it is raised."""
    # The kernel gets what this process imports, and none of the user's settings of runs folder or tracking store.
    variables = ("ABLATE_RUNS", "ABLATE_DATA_ROOT", "ABLATE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    search_path = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(search_path)
    client = NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return notebook


def normalize(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Remove what differs from one execution to the next, or tells of the machine."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02}"
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).pop("execution", None)
            for container in (output, output.get("data", {})):
                for key, text in container.items():
                    if isinstance(text, str):
                        container[key] = text.replace(str(folder), ".")


def errors_in(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The errors that the cells show."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                yield re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))


def main() -> None:
    """Execute the notebook of the arguments, or the tutorial itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", nargs="?", type=Path, default=TUTORIAL, help="where to write it")
    output = parser.parse_args().output
    notebook = nbformat.read(TUTORIAL, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
        normalize(notebook, Path(folder))
    nbformat.write(notebook, output)
    print(output)


if __name__ == "__main__":
    main()
