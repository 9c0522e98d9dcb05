"""Page of a calibration, with its tables as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.specs.errors import UserError
from lightning_modules.specs.text import format_count
from reports.analysis.endpoints import endpoint_values, value_resolution
from reports.calibration.cases import MIN_TRAININGS, Calibration, MeasuredRate, Trainings
from reports.content.calibration import calibration_sections, calibration_title, summarize_calibration
from reports.figures.page_figures.calibration import calibration_figures
from reports.pages.study import PAGE_FILE, figure_files, replace_folder
from reports.renderers import html, markdown
from reports.renderers.csv import SIGNIFICANT_DIGITS, CsvValue, format_csv
from studies.design.study import Study
from studies.records.study_record import StudyRecord

JSON_FILE = "calibration.json"


def collect_trainings(record: StudyRecord, study: Study) -> Trainings:
    """Collect the test errors of a recorded calibration.

    Args:
        study: the study whose arms were trained, for its name and claims.

    Raises:
        UserError: where too few seeds have a test error in every arm.
    """
    registration = record.registration
    values = endpoint_values(record, "test_error")
    # Complete seeds alone: in the paired world a seed stands for all arms at once.
    complete = np.asarray(np.isfinite(values).all(axis=0))
    started_seeds = {trial.seed for trial in record.trials}  # a budget may have left others
    num_started = len(started_seeds.intersection(registration.seeds))
    if complete.sum() < MIN_TRAININGS:
        raise UserError(
            f"{format_count(int(complete.sum()), 'seed')} of {num_started} have a test error in every arm; expected "
            f"{MIN_TRAININGS} or more to resample studies from. Give more --seeds; 200 or more give useful intervals."
        )
    own_claims = []
    # A calibration of some arms keeps the claims that these can answer, on the one endpoint whose noise is measured.
    for claim in study.ablation.claims:
        if claim.endpoints == ("test_error",) and set(claim.arms) <= set(registration.arms):
            own_claims.append(claim)
    return Trainings(
        study=study.name,
        protocol=registration.protocol,
        arms=registration.arms,
        claims=tuple(own_claims),
        errors=values[:, complete],
        num_left_out=num_started - int(complete.sum()),
        smallest_effect=registration.smallest_effect,
        resolution=value_resolution(registration, "test_error"),
    )


def count_complete_seeds(record: StudyRecord) -> int:
    """Seeds under which every arm has a test error."""
    return int(np.isfinite(endpoint_values(record, "test_error")).all(axis=0).sum())


def write_calibration(calibration: Calibration, folder: Path) -> Path:
    """Write the page in place of a folder; returns its path."""
    replace_folder(folder, calibration_files(calibration))
    return folder / PAGE_FILE


def calibration_files(calibration: Calibration) -> dict[str, bytes]:
    """Every file of the page by its path below the folder."""
    figures = {figure.name: figure for figure in calibration_figures(calibration)}
    title, answer = calibration_title(calibration), summarize_calibration(calibration)
    sections = calibration_sections(calibration)
    page = html.load_template("calibration.html.j2").render(
        title=title, answer=answer, sections=sections, figures=figures
    )
    blocks = [f"# {markdown.escape_text(title)}", f"**{markdown.escape_text(answer)}**"]
    for section in sections:
        blocks += markdown.render_section(section, figures)
    texts = {
        PAGE_FILE: page,
        "calibration.md": markdown.join_blocks(blocks),
        JSON_FILE: json.dumps(calibration_to_json(calibration), ensure_ascii=False, indent=1) + "\n",
        "rates.csv": format_csv([_rate_row(rate) for rate in calibration.rates], SIGNIFICANT_DIGITS),
    }
    contents = {name: text.encode() for name, text in texts.items()}
    return contents | figure_files(figures.values())


def calibration_to_json(calibration: Calibration) -> dict[str, Any]:
    """Everything that was measured as plain data; rates in percent, errors in percent by arm."""
    trainings = calibration.trainings
    errors = {}
    for arm, row in zip(trainings.arms, trainings.errors, strict=True):
        # Four decimals tell apart any two errors of up to 10,000 test images.
        errors[arm] = [round(value, 4) for value in row.tolist()]
    return {
        "study": trainings.study,
        "protocol": trainings.protocol,
        "trainings": trainings.num_trainings,
        "left_out_seeds": trainings.num_left_out,
        "smallest_effect": trainings.smallest_effect,
        "resolution": trainings.resolution,
        "claims": [claim.sentence for claim in trainings.claims],
        "answer": summarize_calibration(calibration),
        "arm_noise": [asdict(noise) | {"shape": noise.shape} for noise in calibration.arm_noise],
        "paired_noise": asdict(calibration.paired_noise) if calibration.paired_noise else None,
        "planned_seeds": {f"{shift:g}": seeds for shift, seeds in calibration.planned_seeds.items()},
        "planned_equivalence_seeds": calibration.planned_equivalence_seeds,
        "left_out": list(calibration.left_out),
        "checked_studies": calibration.num_checked,
        "rates": [_rate_row(rate) for rate in calibration.rates],
        "errors": errors,
    }


def _rate_row(rate: MeasuredRate) -> dict[str, CsvValue]:
    case = rate.case
    return {
        "quantity": case.quantity,
        "world": case.world,
        "arm": case.arm,
        "claims": case.claims,
        "arms": case.num_arms,
        "seeds": case.num_seeds,
        "shift": case.shift,
        # Ten thousand studies resolve a hundredth of a percent.
        "percent": round(rate.percent, 3),
        "low": round(rate.low, 3),
        "high": round(rate.high, 3),
    }
