"""Health checks of the environment: installed packages, devices, a protocol's data, a Ray cluster."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from studies import protocols
from studies.execution.resources import Resources
from studies.hardware import count_cores, count_gpus, memory_gib
from studies.maintenance.health_check import HealthCheck
from studies.records.digests import FIRST_PARTY_PACKAGES
from studies.settings import Settings, redact_credentials
from studies.storage.dataset_download import uses_data_root, with_local_data

PACKAGE_NAME, COMMAND_NAME = "ablation-studies", "ablate"
OWN_ROOT = Path(__file__).resolve().parents[2]  # folder of the four packages
DOWNLOADED_SOURCES = ("cifar10", "cifar100")  # that `ablate run` fetches itself


def check_installation() -> Iterator[HealthCheck]:
    """Compare Python and the required packages with their supported versions."""
    try:
        package = metadata.metadata(PACKAGE_NAME)
    except metadata.PackageNotFoundError:
        yield HealthCheck(
            area="installation", level="error", finding=f"{PACKAGE_NAME} is not installed", advice="run `make setup`"
        )
        return
    yield _check_version("Python", platform.python_version(), SpecifierSet(package["Requires-Python"]))
    checks = []
    for text in metadata.requires(PACKAGE_NAME) or ():
        requirement = Requirement(text)
        # A marker names another platform, or an extra such as [dev], which running studies does not need.
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            checks.append(_check_package(requirement))
    problems = [check for check in checks if check.level != "ok"]
    yield from problems
    num_supported = len(checks) - len(problems)
    finding = f"{num_supported} of {len(checks)} packages have supported versions"
    yield HealthCheck(area="installation", level="ok", finding=finding)
    yield from check_names()


def check_names() -> Iterator[HealthCheck]:
    """Find what else has the names of this distribution's packages or of its command.

    The names of its packages are common ones, and `ablate` on PyPI is another program.
    """
    for name in FIRST_PARTY_PACKAGES:
        spec = PathFinder.find_spec(name)  # by the order of the import path alone
        found = Path(spec.origin).parent if spec and spec.origin else None
        own = OWN_ROOT / name
        if found and found.resolve() != own:
            yield HealthCheck(
                area="installation",
                level="warning",
                finding=f"Python finds another package {name!r}, {found}, before this program's, {own}",
                advice="rename that folder, or give the other one its own environment",
            )
    distributions = metadata.packages_distributions()
    for name in FIRST_PARTY_PACKAGES:
        others = sorted(set(distributions.get(name, ())) - {PACKAGE_NAME})
        if others:
            yield HealthCheck(
                area="installation",
                level="error",
                finding=f"{', '.join(others)} also installs a package {name!r}: it may have replaced files of this one",
                advice=f"give each its own environment, and there: pip install --force-reinstall {PACKAGE_NAME}",
            )
    for command in metadata.entry_points(group="console_scripts", name=COMMAND_NAME):
        owner = command.dist.name if command.dist else "another distribution"
        if owner != PACKAGE_NAME:
            yield HealthCheck(
                area="installation",
                level="warning",
                finding=f"{owner} also installs a command `{COMMAND_NAME}`: which one runs is that installed last",
                advice="call this one as `python -m studies.cli`, or give each its own environment",
            )


def _check_package(requirement: Requirement) -> HealthCheck:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        finding = f"{requirement.name} is missing"
        return HealthCheck(area="installation", level="error", finding=finding, advice=f"pip install '{requirement}'")
    return _check_version(requirement.name, version, requirement.specifier)


def _check_version(name: str, installed: str, supported: SpecifierSet) -> HealthCheck:
    # Pre-releases count: machines with new GPUs often need a release candidate of torch.
    if supported.contains(installed, prereleases=True):
        return HealthCheck(area="installation", level="ok", finding=f"{name} {installed}")
    finding = f"{name} {installed} is installed; supported: {supported}"
    advice = "use a supported Python" if name == "Python" else f"pip install '{name}{supported}'"
    return HealthCheck(area="installation", level="error", finding=finding, advice=advice)


def check_devices() -> Iterator[HealthCheck]:
    """Count cores and memory, and run a small computation on every GPU."""
    finding = f"{count_cores()} CPU cores, {memory_gib():.0f} GiB of memory"
    yield HealthCheck(area="devices", level="ok", finding=finding)
    import torch

    num_gpus = count_gpus()
    if not num_gpus and Path("/dev/nvidia0").exists():
        finding = f"this machine has an NVIDIA GPU, but torch {torch.__version__} does not detect it"
        advice = "install an NVIDIA driver and a torch build that match"
        yield HealthCheck(area="devices", level="warning", finding=finding, advice=advice)
    elif not num_gpus:
        yield HealthCheck(area="devices", level="ok", finding="no GPU: trials run on the CPU")
    for index in range(num_gpus):
        yield _check_gpu(index)


def _check_gpu(index: int) -> HealthCheck:
    import torch

    name = f"GPU {index}, {torch.cuda.get_device_name(index)}"
    try:
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        is_correct = bool((ones @ ones == 64).all())  # sums of 64 ones, exact in every precision
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        finding = f"{name} fails to compute ({str(error).splitlines()[0]})"
        return HealthCheck(area="devices", level="error", finding=finding)
    if not is_correct:
        return HealthCheck(area="devices", level="error", finding=f"{name} returns wrong results")
    finding = f"{name}: {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    return HealthCheck(area="devices", level="ok", finding=finding)


def check_data(settings: Settings, protocol_name: str) -> Iterator[HealthCheck]:
    """Read a protocol's data set, without downloading it."""
    from lightning_modules.data.inventory import make_inventory

    protocol = protocols.load(protocol_name)
    source = getattr(protocol.setup.data, "source", "")  # a user's own data module has none
    if settings.data_uri and uses_data_root(protocol.setup):
        settings.create_folders()
        settings = with_local_data(settings)
    if source in DOWNLOADED_SOURCES and not any(settings.data_root.glob("*")):
        finding = f"{source} is not in {settings.data_root}"
        advice = "the first `ablate run` downloads it; offline, copy it there or give --data-root"
        yield HealthCheck(area="data", level="warning", finding=finding, advice=advice)
        return
    settings.create_folders()
    try:
        inventory = make_inventory(protocol.setup, protocol.seeds, settings.data_root, settings.cache_folder)
    except OSError as error:
        finding = f"cannot read the data of {protocol_name} in {settings.redacted_data_location}: {error}"
        advice = "give the data folder with --data-root, and check that it is readable"
        yield HealthCheck(area="data", level="error", finding=finding, advice=advice)
        return
    sizes = ", ".join(f"{count:,} for {split}" for split, count in inventory.split_sizes.items())
    finding = f"{inventory.name}: {inventory.num_classes} classes; {sizes} ({inventory.origin})"
    yield HealthCheck(area="data", level="ok", finding=finding)


def check_cluster(settings: Settings, address: str) -> Iterator[HealthCheck]:
    """Check that a Ray cluster's nodes respond, are alike, and reach the runs folder or the object store."""
    from studies.execution.cluster.ray_cluster import survey_nodes
    from studies.execution.resources import configure_ray

    configure_ray(address)
    settings.create_folders()
    uri = settings.object_store_uri
    # With an object store, a node needs only a folder of its own; otherwise all nodes must see the same one.
    shared_folders = [] if uri else [settings.trials_folder]
    writable_folders = [settings.trials_folder] if uri else []
    access = f"writes to {redact_credentials(uri)}" if uri else f"sees {settings.trials_folder}"
    nodes = survey_nodes(
        Resources(address=address), shared_folders, writable_folders=writable_folders, object_store_uri=uri
    )
    for node in nodes:
        models = ", ".join(node.device_models.values())
        finding = f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs, {models}; it {access}"
        yield HealthCheck(area="cluster", level="ok", finding=finding)
