"""Register a study: claims, arms and held conditions, before any result exists."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence

from lightning_modules.data.inventory import Inventory
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.text import name_seeds
from studies.design.declare import CALIBRATION_PREFIX, changed_and_held_settings, declare, resuming_command
from studies.design.instantiation import InstantiatedNetwork, compare_modules, instantiate_network
from studies.design.study import Study
from studies.design.verification import build_verified_networks
from studies.records.registration import Registration, source_chain_of


def extend_study(
    name: str, registration: Registration, seeds: Sequence[int], open_seeds: Collection[int] = ()
) -> Study:
    """Declare a recorded study again with more seeds, otherwise as it was registered.

    Args:
        open_seeds: registered seeds under which trials are left, as after an extension that was interrupted: these
            may be named again.

    Raises:
        InvalidValue: where the study was registered with interim analyses, no seed is new or open, or they are the
            trainings of a calibration.
    """
    if registration.study.startswith(CALIBRATION_PREFIX):
        raise InvalidValue(
            f"{registration.study} holds the trainings of a calibration, whose own command adds seeds: "
            f"{_calibration_command(registration, seeds)}"
        )
    if registration.looks:
        # The thresholds of the analyses spend the whole error rate on the registered numbers of seeds.
        raise InvalidValue(
            f"{registration.study} was registered with interim analyses after {_join_numbers(registration.looks)} "
            "seeds, and cannot be extended: further seeds would exceed its error rate. Register another study, with "
            "more seeds in --looks."
        )
    known = {*registration.seeds}
    if {*seeds} <= known.difference(open_seeds):
        left = f" To train what is left under {name_seeds(open_seeds)}, name these." if open_seeds else ""
        raise InvalidValue(
            f"{registration.study} has the seeds {_join_numbers(registration.seeds)} already; expected a larger "
            f"number of them, or new seeds.{left}"
        )
    # Sorted: the stages of a study are increasing seeds, and its pairs do not depend on their order.
    return declare(name, registration.protocol, sorted(known | {*seeds}), registration.overrides, registration.tuning)


def resuming_command_of(registration: Registration) -> str:
    """The command that trains what is left of a registered study: the same study, and its seeds alone.

    A search of recipes has more options than a registration tells as text: dots stand for them.
    """
    if registration.study.startswith(CALIBRATION_PREFIX):
        return _calibration_command(registration, registration.seeds)
    words = _command_words(registration)
    words.append(
        f"--looks {','.join(map(str, registration.looks))}" if registration.looks else _seeds_option(registration.seeds)
    )
    return " ".join([*words, "--tune ..."] if registration.tuning else words)


def _calibration_command(registration: Registration, seeds: Sequence[int]) -> str:
    command, *options = _command_words(registration)
    arms = [f"--arm {shlex.quote(arm)}" for arm in registration.arms]
    return " ".join([command, *arms, *options, _seeds_option(seeds)])


def _command_words(registration: Registration) -> list[str]:
    overrides = [f"--set {shlex.quote(f'{path}={value}')}" for path, value in registration.overrides.items()]
    return [resuming_command(registration.study), f"--protocol {registration.protocol}", *overrides]


def _seeds_option(seeds: Sequence[int]) -> str:
    if tuple(seeds) == tuple(range(len(seeds))):
        return f"--seeds {len(seeds)}"
    return f"--seeds {','.join(map(str, seeds))}{',' if len(seeds) == 1 else ''}"  # "7," is the seed 7 alone


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
    networks = build_verified_networks(setups, study.tuning)
    for name, network in networks.items():
        for note in network.notes:
            log(f"note: {name}: {note}")
    arms = tuple(setups)
    baseline = arms[0]
    changes, held = changed_and_held_settings(setups)
    source_arms, dependency_setups = study.source_arms, study.dependency_setups
    return Registration(
        study=study.name,
        question=study.ablation.question.strip(),
        protocol=study.protocol.name,
        protocol_note=study.protocol.note.strip(),  # the text, not only the name: the protocol's file may change later
        overrides=study.overrides,
        arms=arms,
        varies=study.ablation.varies,
        forced=study.ablation.forced,
        changes=changes,
        held=held,
        properties=_measure_properties(networks, dependency_setups),
        built={name: compare_modules(networks[baseline], networks[name]) for name in arms[1:]},
        property_studied=study.ablation.property_studied,
        factorial=study.ablation.factorial,
        design=study.ablation.design,
        donors=source_arms,
        donor_epochs=_count_source_epochs(source_arms, dependency_setups),
        tested=study.evaluated_arms,
        unknowns=_collect_remarks(networks),
        claims=study.ablation.claims_for(setups[baseline]),
        smallest_effect=study.protocol.smallest_effect,
        reference=study.ablation.reference_for(setups[baseline]),
        replications=study.ablation.replications_for(setups[baseline]),
        seeds=study.seed_stages[0],  # of a sequential study the first stage; later ones are added as they are trained
        looks=study.looks,
        tuning=study.tuning,
        data=_describe_data(inventory),
        class_counts=inventory.class_counts,
        layers={name: tuple(network.modules.items()) for name, network in networks.items()},
    )


def _measure_properties(
    networks: Mapping[str, InstantiatedNetwork], dependency_setups: Mapping[str, Setup]
) -> dict[str, Mapping[str, int]]:
    """The properties of every arm's network, and of the networks that arms start from or evaluate."""
    properties: dict[str, Mapping[str, int]] = {name: network.properties for name, network in networks.items()}
    for name, setup in dependency_setups.items():
        if name not in networks:  # one that is an arm has been built with the arms
            properties[name] = instantiate_network(setup).properties
    return properties


def _count_source_epochs(source_arms: Mapping[str, str], dependency_setups: Mapping[str, Setup]) -> dict[str, int]:
    """Per arm that starts from another network, the epochs that were trained before its own."""
    source_epochs = {}
    # The whole chain: a source may itself start from another network.
    for arm in source_arms:
        source_epochs[arm] = sum(dependency_setups[source].epochs for source in source_chain_of(arm, source_arms))
    return source_epochs


def _collect_remarks(networks: Mapping[str, InstantiatedNetwork]) -> dict[str, tuple[str, ...]]:
    """What cannot be known of an arm's network, and what is to be noted of it; only of arms that have such a thing."""
    remarks = {name: (*network.unknowns, *network.notes) for name, network in networks.items()}
    return {name: sentences for name, sentences in remarks.items() if sentences}


def _describe_data(inventory: Inventory) -> dict[str, str | int]:
    return {
        "name": inventory.name,
        "form": inventory.origin,
        "classes": inventory.num_classes,
        **inventory.split_sizes,
        "digest": inventory.digest,
    }
