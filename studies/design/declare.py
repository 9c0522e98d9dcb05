"""Declare a study from names and text, as a command line or a notebook gives them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import ablations
from ablations import Arm, Difference, compare_setups
from lightning_modules.specs.errors import SYNONYMS, InvalidValue, UnknownPath
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import Leaf, annotation_at, edit_field, flatten_fields, parse_leaf
from studies import protocols
from studies.design.study import Study, count_to_seeds
from studies.design.tuning import (
    DEFAULT_NUM_RUNGS,
    DEFAULT_SPACE,
    FIRST_TUNING_SEED,
    Pruning,
    Sampler,
    TuningBudget,
    parse_dimension,
)

# The one override that is applied before the others; see ``_parse_overrides``.
RESOLUTION_PATH = "scale.resolution"
CALIBRATION_PREFIX = "calibration-"  # of the name under which the trainings of a calibration are recorded


def declare(
    name: str,
    protocol: str = protocols.DEFAULT_PROTOCOL,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    tuning: TuningBudget | int | None = None,
    looks: Sequence[int] = (),
) -> Study:
    """Declare a study of an ablation under a protocol.

    Args:
        name: name of an ablation, or the path of its file (``./my_ablation.py``).
        seeds: seeds, or their number, counted from 0; by default the last of ``looks``, or the protocol's seeds.
        overrides: values by setting path, applied to every arm (``{"recipe.epochs": 5}``); text is parsed as the
            field's type.
        tuning: budget for tuning every arm's recipe; a number of candidates stands for the default space without the
            paths that the study varies itself.
        looks: numbers of seeds after which a sequential study analyses its claims; the last one is its number of
            seeds.

    Raises:
        UnknownAblation, UnknownProtocol: with the nearest name.
        UnknownPath, InvalidValue: for an override that names no field, or a value that the field does not admit.
        InvalidAblation: where the one-change contract does not hold under this protocol.
    """
    conditions = protocols.load(protocol)
    ablation = ablations.load(name)
    if seeds is None:
        seeds = looks[-1] if looks else conditions.seeds
    # Only the default space is cut down: a budget that names its space is checked by ``Study`` instead, and refused.
    if isinstance(tuning, int):
        tuning = TuningBudget(trials=tuning).without_paths((*ablation.varies, *ablation.forced))
    return Study(
        name=ablations.ablation_name(name),
        ablation=ablation,
        protocol=conditions,
        seeds=_normalize_seeds(seeds),
        overrides=_parse_overrides(ablation.baseline, conditions.setup, overrides or {}),
        import_paths=ablations.find_import_paths(name),
        tuning=tuning,
        looks=tuple(looks),
    )


def training_command(study: str) -> str:
    """The command that trains a recorded study: a calibration has its own."""
    return "ablate calibrate" if study.startswith(CALIBRATION_PREFIX) else "ablate run"


def resuming_command(study: str) -> str:
    """The command that resumes a recorded study, without options.

    Of a user's own ablation, only the name of its file is recorded.
    """
    name = study.removeprefix(CALIBRATION_PREFIX)
    return f"{training_command(study)} {name if name in ablations.names() else f'PATH/{name}.py'}"


def declare_calibration(
    name: str,
    protocol: str,
    seeds: int | Sequence[int],
    overrides: Mapping[str, Leaf],
    arms: Sequence[str] = (),
) -> Study:
    """Declare the trainings of a calibration: arms of an ablation under many seeds, as a study of its own.

    Its trials are those of the ablation's study, so that each reuses the results of the other.

    Args:
        arms: which of the arms; all but placebos by default.

    Raises:
        InvalidValue: where an arm would be trained otherwise than in the whole study.
    """
    study = declare(name, protocol, seeds, overrides)
    placebos = study.ablation.placebos
    ablation = study.ablation.select_arms(
        arms or [arm.name for arm in study.ablation.all_arms if arm.name not in placebos]
    )
    calibration = replace(study, name=f"{CALIBRATION_PREFIX}{study.name}", ablation=ablation)
    setups = study.setups()
    for arm, setup in calibration.setups().items():
        if setup != setups[arm]:
            baseline = study.ablation.baseline.name
            raise InvalidValue(
                f"without the baseline, {baseline!r}, arm {arm!r} would be trained under other settings; expected "
                f"those of the whole study. Add --arm {baseline!r}."
            )
    return calibration


def declare_tuning(
    name: str,
    protocol: str,
    overrides: Mapping[str, Leaf],
    *,
    trials: int,
    space: Sequence[str] = (),
    sampler: Sampler = "random",
    pruning: Pruning = "none",
    rungs: int = DEFAULT_NUM_RUNGS,
    seeds: Sequence[int] | None = None,
) -> TuningBudget:
    """Declare a tuning budget from text; the default space leaves out what the study varies itself.

    Args:
        space: dimensions as text; see :func:`studies.design.tuning.parse_dimension`.

    Raises:
        InvalidValue: for a space that cannot be parsed, and for paths that cannot be tuned.
    """
    study = declare(name, protocol, None, overrides)
    dimensions = [parse_dimension(text, study.base_setup) for text in space]
    budget = TuningBudget(
        trials=trials,
        space=tuple(dimensions) or DEFAULT_SPACE,
        sampler=sampler,
        pruning=pruning,
        rungs=rungs,
        seeds=tuple(seeds or (FIRST_TUNING_SEED,)),
    )
    return budget if space else budget.without_paths(study.varied_paths)


def _parse_overrides(baseline: Arm, setup: Setup, overrides: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Parse overrides by the types that the fields have in the baseline's setup.

    The resolution comes first: it may decide the baseline's network (``ByResolution``), and so which fields there are.
    """
    if RESOLUTION_PATH in overrides:
        resolution = parse_override(setup, RESOLUTION_PATH, overrides[RESOLUTION_PATH])
        setup = edit_field(setup, RESOLUTION_PATH, resolution)
    setup = baseline.apply(setup)
    return {path: parse_override(setup, path, value) for path, value in overrides.items()}


def parse_override(setup: Setup, path: str, value: Leaf) -> Leaf:
    """Parse a setting's value by the type that its field has in a setup.

    Raises:
        UnknownPath: for a path that names no field, with the nearest one.
        InvalidValue: for text that cannot be read as the field's type.
    """
    try:
        annotation = annotation_at(setup, path)
        # Values from Python keep their type, and are checked where the setup is edited.
        return parse_leaf(annotation, value) if isinstance(value, str) else value
    except UnknownPath as error:
        raise UnknownPath(f"{path}: {_suggest_path(setup, path) or error}") from None
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error}") from None


def _suggest_path(setup: Setup, path: str) -> str:
    """Suggest the whole path of a setting of which only the last part was given: ``epochs``, ``lr``."""
    name = SYNONYMS.get(path.lower(), path.lower())
    for known_path in flatten_fields(setup, with_omitted=True):
        if known_path.partition(".")[2] == name:
            return f"a setting is given by its whole path. Did you mean {known_path!r}?"
    return ""


def _normalize_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Expand a number of seeds to the seeds from 0 up, and convert NumPy's integers to Python's."""
    if isinstance(seeds, int):
        return count_to_seeds(seeds)
    try:
        # A bool passes unchanged: ``operator.index`` would make it 0 or 1, and ``Study`` refuses it by name.
        return tuple(seed if isinstance(seed, bool) else operator.index(seed) for seed in seeds)
    except TypeError:
        raise InvalidValue(f"seeds are {list(seeds)!r}; expected whole numbers.") from None


def changed_and_held_settings(setups: Mapping[str, Setup]) -> tuple[dict[str, tuple[Difference, ...]], dict[str, Leaf]]:
    """Split the settings of a study's arms into changed and held ones.

    Args:
        setups: every arm's setup, the baseline first.

    Returns:
        Per arm but the baseline, its differences from the baseline; and the settings that are equal in all arms.
    """
    (_, baseline), *others = setups.items()
    changes: dict[str, tuple[Difference, ...]] = {}
    changed_paths: set[str] = set()
    for arm, setup in others:
        changes[arm] = compare_setups(baseline, setup)
        changed_paths.update(difference.path for difference in changes[arm])
    held = {path: leaf for path, leaf in flatten_fields(baseline).items() if path not in changed_paths}
    return changes, held
