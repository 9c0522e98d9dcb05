"""From names and text to a study, and from a study to what is registered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ablations
from ablations import differences
from lightning_modules.data import Examples
from lightning_modules.profile import profile
from lightning_modules.values import Leaf, annotation_at, flatten, parse
from studies import protocols
from studies.records import Registration
from studies.trials import Study


def declare(
    name: str,
    protocol: str = protocols.DEFAULT,
    seeds: Sequence[int] | None = None,
    overrides: Mapping[str, Leaf] | None = None,
) -> Study:
    """A study by names, with overrides for every arm (``{"recipe.epochs": 5}``; text is read as the field's type).

    Raises:
        UnknownAblation, UnknownProtocol: with the nearest name.
        UnknownPath, InvalidValue: for an override that names no field or a value it does not admit.
        InvalidAblation: where the one-change contract does not hold under this protocol.
    """
    conditions = protocols.load(protocol)
    values: dict[str, Leaf] = {
        path: parse(annotation_at(conditions.setup, path), value) if isinstance(value, str) else value
        for path, value in (overrides or {}).items()
    }
    return Study(
        name=name,
        ablation=ablations.load(name),
        protocol=conditions,
        seeds=tuple(seeds) if seeds is not None else conditions.seeds,
        overrides=values,
    )


def register(study: Study, examples: Examples) -> Registration:
    """What is known of a study before its first trial."""
    setups = study.setups()
    names = tuple(setups)
    baseline = setups[names[0]]
    changes = {name: differences(baseline, setup) for name, setup in setups.items() if name != names[0]}
    moved = {change.path for arm in changes.values() for change in arm}
    held_out = baseline.data.validation_fraction * baseline.data.train_fraction * len(examples.train_labels)
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
        held={path: leaf for path, leaf in flatten(baseline).items() if path not in moved},
        properties={name: profile(setup.network, setup.scale).properties() for name, setup in setups.items()},
        claims=study.ablation.claims,
        smallest_effect=study.protocol.smallest_effect,
        reference=study.ablation.reference,
        seeds=study.seeds,
        data={
            "name": baseline.data.source,
            "form": examples.form,
            "classes": len(examples.classes),
            "train": round(baseline.data.train_fraction * len(examples.train_labels) - held_out),
            "validation": round(held_out),
            "test": len(examples.test_labels),
            "digest": examples.digest,
        },
    )
