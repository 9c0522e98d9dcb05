"""From names and text to a study, and from a study to what is registered of it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from itertools import chain

import ablations
from ablations import Arm, Difference, differences
from lightning_modules.reading import Inventory
from lightning_modules.spec import Setup
from lightning_modules.values import InvalidValue, Leaf, UnknownPath, annotation_at, edit, flatten, parse
from studies import protocols
from studies.building import build_all, built, parts_changed
from studies.records import Registration, chain_of
from studies.trials import Study
from studies.tuning import DEFAULT_SPACE, FIRST_TUNING_SEED, RUNGS, Pruning, Sampler, Tuning, parse_dimension

RESOLUTION = "scale.resolution"


def declare(
    name: str,
    protocol: str = protocols.DEFAULT,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
    tuning: Tuning | int | None = None,
    looks: Sequence[int] = (),
) -> Study:
    """A study by names, with overrides for every arm (``{"recipe.epochs": 5}``; text is read as the field's type).

    Args:
        name: of an ablation, or the path of its file (``./my_ablation.py``).
        tuning: how every arm's recipe is tuned; a number of candidates stands for the default space, less what the
            study varies itself.
        looks: numbers of seeds after which a sequential study looks at its claims; the last one is its number of them.

    Raises:
        UnknownAblation, UnknownProtocol: with the nearest name.
        UnknownPath, InvalidValue: for an override that names no field or a value it does not admit.
        InvalidAblation: where the one-change contract does not hold under this protocol.
    """
    conditions = protocols.load(protocol)
    ablation = ablations.load(name)
    if seeds is None:
        seeds = looks[-1] if looks else conditions.seeds
    if isinstance(tuning, int):
        tuning = Tuning(trials=tuning).without((*ablation.varies, *ablation.forced))
    return Study(
        name=ablations.name_of(name),
        ablation=ablation,
        protocol=conditions,
        seeds=_listed(seeds),
        overrides=_read_all(ablation.baseline, conditions.setup, overrides or {}),
        import_paths=ablations.import_paths(name),
        tuning=tuning,
        looks=tuple(looks),
    )


def tuning_of(
    name: str,
    protocol: str,
    overrides: Mapping[str, Leaf],
    *,
    trials: int,
    space: Sequence[str] = (),
    sampler: Sampler = "random",
    pruning: Pruning = "none",
    rungs: int = RUNGS,
    seeds: Sequence[int] | None = None,
) -> Tuning:
    """A tuning declaration from text; without a space it is the default one, less what the study varies itself.

    Raises:
        InvalidValue: for a space that cannot be read, and for what cannot be tuned.
    """
    study = declare(name, protocol, None, overrides)
    declared = Tuning(
        trials=trials,
        space=tuple(parse_dimension(text, study.base) for text in space) or DEFAULT_SPACE,
        sampler=sampler,
        pruning=pruning,
        rungs=rungs,
        seeds=tuple(seeds or (FIRST_TUNING_SEED,)),
    )
    return declared if space else declared.without(study.varied)


def extended(name: str, registration: Registration, seeds: Sequence[int]) -> Study:
    """A recorded study with more seeds, and otherwise as it was registered.

    Raises:
        InvalidValue: where its number of seeds was registered with its looks, or no seed is new.
    """
    if registration.looks:
        raise InvalidValue(
            f"{registration.study} was registered with looks at {', '.join(map(str, registration.looks))} seeds: it "
            "ends there, or its error rate is lost. Register another study, with --looks that go further."
        )
    known = {*registration.seeds}
    if {*seeds} <= known:
        raise InvalidValue(
            f"{registration.study} has the seeds {', '.join(map(str, registration.seeds))} already; expected a larger "
            "number of them, or seeds that are new."
        )
    return declare(name, registration.protocol, sorted(known | {*seeds}), registration.overrides, registration.tuning)


def _read_all(baseline: Arm, setup: Setup, overrides: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Overrides by the types that the fields have in the baseline, whose network may follow the resolution."""
    if RESOLUTION in overrides:
        setup = edit(setup, RESOLUTION, _read(setup, RESOLUTION, overrides[RESOLUTION]))
    setup = baseline.apply(setup)
    return {path: _read(setup, path, value) for path, value in overrides.items()}


def _read(setup: Setup, path: str, value: Leaf) -> Leaf:
    try:
        return parse(annotation_at(setup, path), value) if isinstance(value, str) else value
    except UnknownPath as error:
        raise UnknownPath(f"{path}: {error}") from None
    except InvalidValue as error:
        raise InvalidValue(f"{path}: {error}") from None


def _listed(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """A number of seeds as the seeds from 0 up; numpy's whole numbers as Python's."""
    if isinstance(seeds, int):
        return tuple(range(seeds))
    try:
        return tuple(seed if isinstance(seed, bool) else operator.index(seed) for seed in seeds)
    except TypeError:
        raise InvalidValue(f"seeds are {list(seeds)!r}; expected whole numbers.") from None


def changed_and_held(setups: Mapping[str, Setup]) -> tuple[dict[str, tuple[Difference, ...]], dict[str, Leaf]]:
    """Per arm but the baseline, which comes first, its differences to it; and the leaves that are equal in all arms."""
    (_, baseline), *others = setups.items()
    changes = {arm: differences(baseline, setup) for arm, setup in others}
    moved = {change.path for arm in changes.values() for change in arm}
    return changes, {path: leaf for path, leaf in flatten(baseline).items() if path not in moved}


def register(study: Study, data: Inventory) -> Registration:
    """What is known of a study before its first trial.

    Raises:
        NotASingleChange, InvalidAblation: where the networks as built are not what the arms declare.
    """
    setups = study.setups()
    networks = build_all(setups)
    starts = study.donors
    tested = study.tested
    donors = {fit.arm: fit.setup for fit in study.trials() if fit.arm in {*starts.values(), *chain(*tested.values())}}
    names = tuple(setups)
    baseline = setups[names[0]]
    changes, held = changed_and_held(setups)
    return Registration(
        study=study.name,
        question=study.ablation.question.strip(),
        protocol=study.protocol.name,
        protocol_note=study.protocol.note.strip(),
        overrides=study.overrides,
        arms=names,
        varies=study.ablation.varies,
        forced=study.ablation.forced,
        changes=changes,
        held=held,
        properties={name: network.properties for name, network in networks.items()}
        | {name: built(setup).properties for name, setup in donors.items() if name not in networks},
        built={name: parts_changed(networks[names[0]], networks[name]) for name in names[1:]},
        property_studied=study.ablation.property_studied,
        factorial=study.ablation.factorial,
        donors=starts,
        donor_epochs={arm: sum(donors[name].epochs for name in chain_of(arm, starts)) for arm in starts},
        tested=tested,
        unknowns={name: network.unknowns for name, network in networks.items() if network.unknowns},
        claims=study.ablation.claims,
        smallest_effect=study.protocol.smallest_effect,
        reference=study.ablation.reference_at(baseline),
        seeds=study.stages[0],
        looks=study.looks,
        tuning=study.tuning,
        data={"name": data.name, "form": data.form, "classes": data.classes, **data.sizes, "digest": data.digest},
    )
