"""Register a study: claims, arms and held conditions, before any result exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lightning_modules.data.inventory import Inventory
from lightning_modules.specs.errors import InvalidValue
from studies.design.declare import changed_and_held_settings, declare
from studies.design.instantiation import compare_modules, instantiate_network
from studies.design.study import Study
from studies.design.verification import build_verified_networks
from studies.records.registration import Registration, source_chain_of


def extend_study(name: str, registration: Registration, seeds: Sequence[int]) -> Study:
    """Declare a recorded study again with more seeds, otherwise as it was registered.

    Raises:
        InvalidValue: where the study was registered with interim analyses, or no seed is new.
    """
    if registration.looks:
        # The thresholds of the analyses spend the whole error rate on the registered numbers of seeds.
        raise InvalidValue(
            f"{registration.study} was registered with interim analyses after {_join_numbers(registration.looks)} "
            "seeds, and cannot be extended: further seeds would exceed its error rate. Register another study, with "
            "more seeds in --looks."
        )
    known = {*registration.seeds}
    if {*seeds} <= known:
        raise InvalidValue(
            f"{registration.study} has the seeds {_join_numbers(registration.seeds)} already; expected a larger "
            "number of them, or new seeds."
        )
    # Sorted: the stages of a study are increasing seeds, and its pairs do not depend on their order.
    return declare(name, registration.protocol, sorted(known | {*seeds}), registration.overrides, registration.tuning)


def _join_numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def make_registration(study: Study, inventory: Inventory, log: Callable[[str], None]) -> Registration:
    """Register what is known of a study before its first trial.

    Args:
        log: receives what a user should know of an arm's network.

    Raises:
        NotASingleChange, InvalidAblation: where the instantiated networks are not what the arms declare.
    """
    setups = study.setups()
    networks = build_verified_networks(setups)
    for name, network in networks.items():
        for note in network.notes:
            log(f"note: {name}: {note}")
    names = tuple(setups)
    baseline = names[0]
    changes, held = changed_and_held_settings(setups)
    source_arms, evaluated_arms = study.source_arms, study.evaluated_arms
    dependency_setups = study.dependency_setups
    properties = {name: network.properties for name, network in networks.items()}
    for name, setup in dependency_setups.items():
        if name not in networks:  # one that is an arm has been built with the arms
            properties[name] = instantiate_network(setup).properties
    remarks = {name: (*network.unknowns, *network.notes) for name, network in networks.items()}
    source_epochs = {}
    for arm in source_arms:
        source_epochs[arm] = sum(dependency_setups[source].epochs for source in source_chain_of(arm, source_arms))
    return Registration(
        study=study.name,
        question=study.ablation.question.strip(),
        protocol=study.protocol.name,
        protocol_note=study.protocol.note.strip(),  # the text, not only the name: the protocol's file may change later
        overrides=study.overrides,
        arms=names,
        varies=study.ablation.varies,
        forced=study.ablation.forced,
        changes=changes,
        held=held,
        properties=properties,
        built={name: compare_modules(networks[baseline], networks[name]) for name in names[1:]},
        property_studied=study.ablation.property_studied,
        factorial=study.ablation.factorial,
        design=study.ablation.design,
        donors=source_arms,
        donor_epochs=source_epochs,
        tested=evaluated_arms,
        unknowns={name: sentences for name, sentences in remarks.items() if sentences},
        claims=study.ablation.claims_for(setups[baseline]),
        smallest_effect=study.protocol.smallest_effect,
        reference=study.ablation.reference_for(setups[baseline]),
        replications=study.ablation.replications_for(setups[baseline]),
        seeds=study.seed_stages[0],  # of a sequential study the first stage; later ones are added as they are trained
        looks=study.looks,
        tuning=study.tuning,
        data={
            "name": inventory.name,
            "form": inventory.origin,
            "classes": inventory.num_classes,
            **inventory.split_sizes,
            "digest": inventory.digest,
        },
        class_counts=inventory.class_counts,
        layers={name: tuple(network.modules.items()) for name, network in networks.items()},
    )
