"""Writes the page of a calibration into docs/results/, and the rates of all pages into docs/explanation/statistics.md.

Command: ``make calibration``, or ``python docs/calibration.py [FOLDER]``: the folder of the page that
``ablate calibrate`` wrote; without one, the rates of the pages that are there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_modules.specs.text import format_points, join_words

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"
BEGIN, END = "<!-- written by docs/calibration.py -->", "<!-- end of the calibration -->"
SEED_COUNTS = (2, 3, 5, 8, 10, 15, 20)


def measured_rates(calibrations: Sequence[Mapping[str, Any]]) -> str:
    """Per calibration the answer, the table of wrong verdicts, what the planned seeds found, and the noise."""
    return "\n\n".join("\n".join(_rates_of(found)) for found in calibrations)


def _rates_of(found: Mapping[str, Any]) -> Iterator[str]:
    trainings = f"{found['trainings']} trainings each of {join_words(found['errors'])}"
    page = f"../results/{page_name(found)}.md"
    yield f"#### [`{found['study']}` under `{found['protocol']}`]({page}): {trainings}"
    yield ""
    yield found["answer"]
    yield ""
    yield from _wrong_verdict_rows(found)
    yield ""
    yield from _power_lines(found)
    yield from _noise_lines(found)


def page_name(found: Mapping[str, Any]) -> str:
    """Name of a calibration's files in docs/results, without an ending."""
    return f"calibration-{found['study']}-{found['protocol']}"


def _wrong_verdict_rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Percent of studies with a wrong verdict, the highest over numbers of arms, with its interval."""
    yield f"| trainings, claims | {' | '.join(f'{count} seeds' for count in SEED_COUNTS)} |"
    yield "|---" + "|---:" * len(SEED_COUNTS) + "|"
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for rate in found["rates"]:
        if rate["quantity"] != "wrong":
            continue
        trainings = f"{rate['world']}, {rate['arm']}" if rate["arm"] else rate["world"]
        highest = groups.setdefault(f"{trainings}: {rate['claims']}", {})
        known = highest.get(rate["seeds"])
        if known is None or rate["percent"] > known["percent"]:
            highest[rate["seeds"]] = rate
    for name, highest in groups.items():
        cells = [_format_rate(highest[count]) if count in highest else "" for count in SEED_COUNTS]
        yield f"| {name} | {' | '.join(cells)} |"


def _power_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for rate in found["rates"]:
        is_mean = not rate["arm"] or len(found["errors"]) == 2
        if rate["quantity"] == "found" and is_mean:
            yield (
                f"- An improvement of {format_points(rate['shift'])}, for which {rate['seeds']} seeds are planned "
                f"(80%), is found in {_format_rate(rate)}% of studies."
            )
        if rate["quantity"] == "found equivalence" and is_mean:
            yield f"- Equal arms are found equivalent with the {rate['seeds']} planned seeds in {_format_rate(rate)}%."
    wrong = [rate for rate in found["rates"] if rate["quantity"] == "wrong equivalence"]
    if wrong:
        highest = max(wrong, key=lambda rate: float(rate["percent"]))
        yield (
            f"- An arm that differs by ε is called equivalent in at most {_format_rate(highest)}% "
            f"({highest['arm'] or 'mean over arms'}, {highest['seeds']} seeds)."
        )


def _noise_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for noise in found["arm_noise"]:
        spread = f"mean {noise['mean']:.2f}%, SD {noise['deviation']['value']:.2f} points"
        yield f"- {noise['arm']}: {spread}; {noise['shape']}."
    if found["paired_noise"]:
        correlation = found["paired_noise"]["correlation"]
        limits = f"[{correlation['low']:.2f}, {correlation['high']:.2f}]"
        yield f"- Correlation of two arms over seeds: {correlation['value']:.2f} {limits}."


def _format_rate(rate: Mapping[str, Any]) -> str:
    return f"{rate['percent']:.1f} [{rate['low']:.1f}, {rate['high']:.1f}]"


def replace_block(text: str, block: str) -> str:
    """The page with what stands between the two markers replaced.

    Raises:
        ValueError: where the page lacks a marker.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no lines {BEGIN} and {END}; add them where the rates belong.")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def write_page(folder: Path) -> None:
    """Copy the page that ``ablate calibrate`` wrote, its figures and its numbers into docs/results."""
    found = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    name = page_name(found)
    (RESULTS / f"{name}.json").write_bytes((folder / "calibration.json").read_bytes())
    tables = (folder / "calibration.md").read_text(encoding="utf-8")
    figures = RESULTS / name  # a folder of its own: other pages may have figures of the same names
    figures.mkdir(exist_ok=True)
    for picture in re.findall(r"\]\(figures/([^)]+)\)", tables):
        (figures / picture).write_bytes((folder / "figures" / picture).read_bytes())
    (RESULTS / f"{name}.md").write_text(tables.replace("](figures/", f"]({name}/"), encoding="utf-8")


def main() -> None:
    """Write a new page, if there is one, and the rates of all pages."""
    for folder in map(Path, sys.argv[1:]):
        write_page(folder)
    files = sorted(RESULTS.glob("calibration-*.json"))
    calibrations = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    page = DOCS / "explanation" / "statistics.md"
    page.write_text(replace_block(page.read_text(encoding="utf-8"), measured_rates(calibrations)), encoding="utf-8")


if __name__ == "__main__":
    main()
