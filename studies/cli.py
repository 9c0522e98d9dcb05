"""The command line, and the one place where all layers meet. Frameworks are imported when a command needs them."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ablations
from lightning_modules.spec import TEST_MODES
from studies import protocols, upkeep
from studies.planning import REUSES
from studies.settings import Settings, SettingsError
from studies.terminal import (
    FAILURE,
    Asked,
    CommandGroup,
    Numbers,
    Seeds,
    as_json,
    in_data_root,
    in_storage,
    of_a_store,
    of_a_study,
    of_patience,
    of_resources,
    print_json,
    print_table,
    run_and_leave,
)

if TYPE_CHECKING:
    from studies.resources import Resources

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="ablation-studies", prog_name="ablate")
def main(debug: bool) -> None:
    """Controlled ablation studies of convolutional networks: one change, proved; paired seeds; honest verdicts."""
    del debug


@main.command("list")
@as_json
def list_(as_json: bool) -> None:
    """The ablations and the protocols that there are."""
    found = {name: ablations.load(name) for name in ablations.names()}
    if as_json:
        rows = [
            {
                "name": name,
                "question": ablation.question.strip(),
                "arms": [arm.name for arm in ablation.all_arms],
                "claims": [claim.sentence for claim in ablation.claims],
            }
            for name, ablation in found.items()
        ]
        print_json({"ablations": rows, "protocols": [_protocol_row(name) for name in protocols.names()]})
        return
    print_table(
        ("ablation", "arms", "question"),
        [(name, len(ablation.all_arms), ablation.question.strip()) for name, ablation in found.items()],
    )
    print_table(
        ("protocol", "seeds", "what it is"),
        [(row["name"], len(row["seeds"]), row["about"]) for row in map(_protocol_row, protocols.names())],
    )


@main.command()
@click.argument("name")
@of_a_study
@as_json
def show(name: str, asked: Asked, as_json: bool) -> None:
    """What a study would do, before anything is spent: arms, what each changes, what is held, costs, trials.

    NAME is an ablation's, or the path of its file: ./my_ablation.py.
    """
    from studies.preview import preview
    from studies.shown import print_preview

    study = _declared(name, asked)
    shown = preview(study) | {"detectable": _detectable(study)}
    if as_json:
        print_json(shown)
        return
    print_preview(shown)


@main.command()
@click.argument("name")
@of_a_study
@in_data_root
@of_a_store
@in_storage
@of_resources
@of_patience
@click.option(
    "--reuse",
    type=click.Choice(REUSES),
    default="matching",
    show_default=True,
    help="Which ended trials are used again.",
)
@click.option("--until-resolved", is_flag=True, help="Add seeds until every claim is resolved; see --max-seeds.")
@click.option("--max-seeds", type=click.IntRange(min=2), help="Of --until-resolved: at most so many, in three looks.")
@click.option("--dry-run", is_flag=True, help="List the study's trials, and stop.")
@click.option("--report", "with_report", is_flag=True, help="Compile the report at the end.")
@as_json
def run(
    name: str,
    asked: Asked,
    data_root: str | None,
    runs: str | None,
    tracking_uri: str | None,
    storage: str | None,
    resources: Resources,
    patience: dict[str, Any],
    reuse: Any,
    until_resolved: bool,
    max_seeds: int | None,
    dry_run: bool,
    with_report: bool,
    as_json: bool,
) -> None:
    """Train what is left of a study, and record it.

    NAME is an ablation's, or the path of its file: ./my_ablation.py.
    """
    asked = _with_looks(asked, until_resolved, max_seeds)
    settings = replace(Settings.of(runs, data_root, tracking_uri, storage), **patience)
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run: a run shows its progress.")
    if dry_run:
        _print_dry_run(_declared(name, asked), as_json=as_json)
        return
    with _processes_ahead(name, settings, resources):
        _run(_declared(name, asked), settings, resources, reuse, with_report)


def _processes_ahead(name: str, settings: Settings, resources: Resources) -> AbstractContextManager[None]:
    """What trials will be forked from loads beside the command, where a study was never run on this machine.

    Otherwise it loads once it is known that something is left to train; a cluster's nodes have their own.
    """
    from studies.forks import server_ahead

    is_new = not any(settings.studies.glob(f"{Path(name).stem}-*"))
    return server_ahead() if is_new and not resources.address else nullcontext()


def _run(study: Any, settings: Settings, resources: Resources, reuse: Any, with_report: bool, run_id: str = "") -> None:
    """Run what is left of a study; ``run_id`` is of the parent run that it must be, where it is to go on."""
    from studies.ahead import ray_ahead
    from studies.collecting import no_garbage_sought

    with ray_ahead(study, settings, resources):
        with no_garbage_sought():
            from studies.running import Driver

            driver = Driver(study, settings, resources, click.echo, goes_on=run_id)
        record = driver.run(reuse, unresolved=_unresolved)
        failed = [trial for trial in record.trials if trial.state == "failed"]
        for trial in failed:
            last = (trial.result.error.strip().splitlines() if trial.result else [""])[-1]
            click.echo(f"{trial.arm}, seed {trial.seed} failed: {last}", err=True)
        if with_report:
            click.echo(_compile(record, settings))
        else:
            told = f"ablate report {study.name} --protocol {study.protocol.name}"
            click.echo(f"recorded in {settings.store}; the report: {told}")
    if failed:
        sys.exit(FAILURE)


@main.command()
@click.argument("name")
@click.option("--protocol", default=protocols.DEFAULT, show_default=True, help="Conditions that all arms share.")
@click.option("--seeds", type=Seeds(), required=True, help="How many there are to be in all, or which to add.")
@in_data_root
@of_a_store
@in_storage
@of_resources
@of_patience
@click.option("--report", "with_report", is_flag=True, help="Compile the report at the end.")
def extend(
    name: str,
    protocol: str,
    seeds: tuple[int, ...],
    data_root: str | None,
    runs: str | None,
    tracking_uri: str | None,
    storage: str | None,
    resources: Resources,
    patience: dict[str, Any],
    with_report: bool,
) -> None:
    """Add seeds to a study as it was recorded last: paired for all arms, with the settings that it was run with.

    The report says that it was extended: adding seeds until a claim looks significant makes it wrong too often. To be
    free to add seeds, register looks before the first run: ablate run NAME --looks 3,5,10.
    """
    from studies.declaring import extended

    settings = replace(Settings.of(runs, data_root, tracking_uri, storage), **patience)
    record = _read(name, protocol, settings)
    study = extended(name, record.registration, seeds)
    _run(study, settings, resources, "matching", with_report, record.run_id)


@main.command()
@click.argument("name")
@of_a_study
@click.option(
    "--difference", type=click.FloatRange(min=0, min_open=True), help="A true difference to be found, points."
)
@click.option(
    "--equivalence",
    type=click.FloatRange(min=0, min_open=True),
    help="Two equal arms to be shown equivalent within ± this, points.",
)
@click.option("--power", type=click.FloatRange(0.5, 0.99), default=0.8, show_default=True, help="How often.")
@click.option(
    "--spread",
    type=click.FloatRange(min=0, min_open=True),
    help="SD of a paired difference, points.  [the recorded study's]",
)
@click.option("--price-per-gpu-hour", type=click.FloatRange(min=0), help="To tell the cost in money.")
@click.option(
    "--gpus-per-trial", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of the planned run."
)
@of_a_store
@as_json
def plan(
    name: str,
    asked: Asked,
    difference: float | None,
    equivalence: float | None,
    power: float,
    spread: float | None,
    price_per_gpu_hour: float | None,
    gpus_per_trial: float,
    runs: str | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """How many seeds a question takes: from the recorded study as a pilot, or from a spread that you state.

    Without a question it asks both for the protocol's smallest effect of interest.
    """
    from reports.planned import plan_seeds, print_plan

    study = _declared(name, asked)
    found = plan_seeds(
        study, None if spread else _pilot(name, asked.protocol, Settings.of(runs, None, tracking_uri)), spread=spread,
        difference=difference, equivalence=equivalence, power=power, price_per_gpu_hour=price_per_gpu_hour,
        gpus_per_trial=gpus_per_trial, seconds_of_arms=lambda: _seconds_of_arms(study),
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    print_plan(found, click.echo, print_table)


def _pilot(name: str, protocol: str, settings: Settings) -> Any:
    """The recorded study; ``None`` where there is none."""
    from studies.tracking import TrackingError

    try:
        return _read(name, protocol, settings)
    except TrackingError:
        return None


def _seconds_of_arms(study: Any) -> float | None:
    """The estimated time of one trial of every arm, on one core of this machine."""
    from studies.estimate import seconds_per_trial

    times = [seconds_per_trial(setup) for setup in study.setups().values()]
    return None if None in times else sum(each for each in times if each is not None)


@main.command()
@click.argument("name", required=False)
@click.option("--protocol", help="Conditions that all arms share.  [of the study's last start]")
@of_a_store
@in_storage
@click.option("--watch", is_flag=True, help="Follow it until it ends, or Ctrl-C.")
@click.option("--record", is_flag=True, help="Ask the tracking store instead of the folder of runs.")
@as_json
def status(
    name: str | None,
    protocol: str | None,
    runs: str | None,
    tracking_uri: str | None,
    storage: str | None,
    watch: bool,
    record: bool,
    as_json: bool,
) -> None:
    """Where a study stands, from any terminal or machine that sees its folder of runs; of all studies without a NAME.

    What the folder does not know is read from the tracking store.
    """
    from studies import following

    settings = Settings.of(runs, None, tracking_uri, storage)
    if settings.bucket and not record:
        _bring(settings)
    if name is None:
        following.print_all(settings, as_json=as_json)
    elif record or not following.follow(
        settings, ablations.name_of(name), protocol, watch=watch and not as_json, as_json=as_json
    ):
        _print_record(name, protocol or protocols.DEFAULT, settings, as_json=as_json)


def _bring(settings: Settings) -> None:
    """Have here what a bucket holds; where it fails, what is here already is shown."""
    from studies.syncing import bring

    try:
        bring(settings)
    except SettingsError as error:
        click.echo(f"{error} What is known here:", err=True)


def _print_record(name: str, protocol: str, settings: Settings, *, as_json: bool) -> None:
    """Every arm under every seed, as the store has them."""
    record = _read(name, protocol, settings)
    registration = record.registration
    cells = {arm: {seed: _cell(record.of(arm, seed)) for seed in registration.seeds} for arm in _arms(record)}
    if as_json:
        print_json({"study": registration.study, "protocol": registration.protocol, "arms": _states(record)})
        return
    header = ("arm", *(f"seed {seed}" for seed in registration.seeds))
    print_table(header, [(arm, *row.values()) for arm, row in cells.items()])


@main.command()
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--protocol", default=protocols.DEFAULT, show_default=True, help="Conditions that all arms share.")
@click.option("--all", "every", is_flag=True, help="Every study that the store holds under the protocol.")
@click.option("--combine", is_flag=True, help="One page for all of them, beside each one's own.")
@click.option("--against", metavar="RUN_ID", help="Compare with another run of the study: its parent run in MLflow.")
@click.option("--against-protocol", metavar="NAME", help="Compare with its last run under another protocol.")
@of_a_store
def report(
    names: tuple[str, ...],
    protocol: str,
    every: bool,
    combine: bool,
    against: str | None,
    against_protocol: str | None,
    runs: str | None,
    tracking_uri: str | None,
) -> None:
    """Compile reports from the record, without training. Prints each page's path."""
    if not (names or every):
        raise click.UsageError("Name a study, or give --all.")
    if (against or against_protocol) and (len(names) != 1 or every or (against and against_protocol)):
        raise click.UsageError("Name one study and one other run of it: --against RUN_ID or --against-protocol NAME.")
    settings = Settings.of(runs, None, tracking_uri)
    settings.make()
    if every:
        names = tuple(sorted({*map(ablations.name_of, names), *_recorded(protocol, settings)}))
    records = [_read(name, protocol, settings) for name in names]
    pages = [_compile(record, settings) for record in records]
    for page in pages:
        click.echo(page)
    if against or against_protocol:
        click.echo(_compile_rerun(records[0], against, against_protocol, settings))
    if combine or every:
        from reports.summary import write_summary

        click.echo(write_summary(records, settings.report(f"summary-{protocol}"), pages))


@main.command()
@of_a_store
@click.option("--port", type=int, default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def ui(runs: str | None, tracking_uri: str | None, port: int, host: str) -> None:
    """Open the MLflow UI on the store. Ends with Ctrl-C."""
    settings = Settings.of(runs, None, tracking_uri)
    if settings.tracking_uri.startswith("http"):
        click.echo(f"The store is a server: open {settings.store} in a browser.")
        return
    settings.make()
    click.echo(f"MLflow UI on http://{host}:{port} (Ctrl-C ends it)")
    if host not in LOOPBACK:
        told = f"It asks for no password: whoever reaches {host}:{port} can read, change and delete runs."
        click.echo(told, err=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings.tracking_uri  # arguments are there for every user to see
    server = ("mlflow", "server", "--workers", "1", "--host", host, "--port", str(port))
    os.execv(sys.executable, [sys.executable, "-m", *server])


@main.command()
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.option("--resolution", type=int, default=224, show_default=True, help="Side of the input, pixels.")
@click.option("--classes", type=int, default=1000, show_default=True)
@click.option("--channels", type=int, default=3, show_default=True)
@click.option("--width", type=float, default=1.0, show_default=True, help="Factor on every width.")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Draw them, into this folder.")
@as_json
def profile(
    names: tuple[str, ...],
    resolution: int,
    classes: int,
    channels: int,
    width: float,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """What networks cost and see: one layer by layer, several side by side.

    NETWORK is a name of the catalogue (vgg-d), an arm of an ablation (depth/E), or an ablation: all its arms.
    """
    from lightning_modules.spec import Scale
    from studies.profiles import print_one, print_several, profiled, spread

    scale = Scale(resolution=resolution, classes=classes, channels=channels, width=width)
    found = [profiled(name, scale) for name in spread(names)]
    drawn = _draw(found, pictures)
    if as_json:
        data = [each.as_data() for each in found]
        print_json((data[0] if len(data) == 1 else {"networks": data}) | ({"pictures": drawn} if drawn else {}))
        return
    if len(found) == 1:
        print_one(found[0])
    else:
        print_several(found)
    for path in drawn:
        click.echo(path)


@main.command()
@click.argument("network")
@click.option(
    "--weights",
    required=True,
    metavar="FILE",
    help="A trial's weights.pt, torchvision's .pth, or torchvision:VGG16_Weights.IMAGENET1K_V1 from its cache.",
)
@click.option(
    "--data",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with test/<class>/ or val/<class>/.",
)
@click.option("--mode", type=click.Choice(TEST_MODES), default="single", show_default=True)
@click.option(
    "--sides", type=Numbers(int), default=(), help="Shorter sides of the images, pixels: 256,384,512.  [as trained]"
)
@click.option(
    "--mirrored/--not-mirrored", default=True, show_default=True, help="Look at all but a single crop mirrored as well."
)
@click.option("--resolution", type=int, default=224, show_default=True, help="Side of a crop, pixels.")
@click.option("--channels", type=int, default=3, show_default=True)
@click.option("--width", type=float, default=1.0, show_default=True, help="Factor on every width.")
@click.option("--mean", type=Numbers(float), default=(), help="Of pixels from 0 to 255, per channel.  [training's]")
@click.option("--deviation", type=Numbers(float), default=(), help="Likewise.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True)
@as_json
def evaluate(device: str, as_json: bool, **asked: Any) -> None:
    """Test a network with weights from a file on an image folder: errors, images per second, multiply-adds.

    NETWORK is a name of the catalogue (vgg-d) or an arm of an ablation (depth/E). Pixels are normalised as torchvision
    does for its own weights, else by the folder's training images; as trials are, but by all of these images.
    """
    from dataclasses import asdict

    import torch

    from studies.assessing import Asked, assess

    found = asdict(assess(Asked(**asked), torch.device(device)))
    if as_json:
        print_json(found)
        return
    names = ("mode", "top1_error", "top5_error", "images_per_second", "multiply_adds", "images", "classes")
    shown = found | {name: "–" if found[name] is None else f"{found[name]:.2f} %" for name in names[1:3]}
    shown |= {"images_per_second": f"{found['images_per_second']:.1f}", "multiply_adds": f"{found['multiply_adds']:,}"}
    header = ("mode", "top-1 error", "top-5 error", "images/s", "multiply-adds per image", "images", "classes")
    print_table(header, [tuple(shown[name] for name in names)])


def _draw(found: Any, folder: Path | None) -> list[str]:
    if folder is None:
        return []
    from reports.profiles import write_pictures

    return [str(path) for path in write_pictures(found, folder)]


def _detectable(study: Any) -> float | None:
    from reports.statistics import minimum_detectable_difference

    if len(study.seeds) < 2:
        return None
    return minimum_detectable_difference(1.0, len(study.seeds), arms=len(study.ablation.all_arms))


def _declared(name: str, asked: Asked) -> Any:
    from studies.declaring import declare, tuning_of

    overrides = dict(asked.overrides)
    tuning = tuning_of(
        name, asked.protocol, overrides, trials=asked.tune, space=asked.space, sampler=asked.sampler,
        pruning=asked.pruning, rungs=asked.rungs, seeds=asked.tuning_seeds,
    ) if asked.tune else None  # fmt: skip
    return declare(name, asked.protocol, asked.seeds, overrides, tuning, asked.looks)


def _with_looks(asked: Asked, until_resolved: bool, max_seeds: int | None) -> Asked:
    """What was asked for, with the looks that --until-resolved stands for."""
    if not until_resolved and not max_seeds:
        return asked
    if not (until_resolved and max_seeds) or asked.looks or asked.seeds:
        raise click.UsageError("--until-resolved goes with --max-seeds N, and with neither --seeds nor --looks.")
    from studies.trials import spread_looks

    return replace(asked, looks=spread_looks(max_seeds))


def _unresolved(record: Any) -> Any:
    from reports.comparison import unresolved

    return unresolved(record)


def _read(name: str, protocol: str, settings: Settings) -> Any:
    from studies.tracking import Store

    return Store(settings, create=False).read(ablations.name_of(name), protocol)


def _recorded(protocol: str, settings: Settings) -> set[str]:
    from studies.tracking import Store

    return {row["study"] for row in Store(settings, create=False).studies() if row["protocol"] == protocol}


def _compile(record: Any, settings: Settings) -> Path:
    from reports.compile import write
    from studies.tracking import Store

    folder = settings.report(f"{record.registration.study}-{record.registration.protocol}")
    page = write(record, folder)
    Store(settings).attach(record.run_id, folder)
    return page


def _compile_rerun(record: Any, run_id: str | None, protocol: str | None, settings: Settings) -> Path:
    from reports.rerun import rerun
    from reports.rerun_page import write_rerun
    from studies.tracking import Store

    registration = record.registration
    found = rerun(record, Store(settings).read(registration.study, protocol, run_id))
    other = f"{found.other.registration.protocol}-{found.other.run_id[:8]}"
    return write_rerun(found, settings.report(f"{registration.study}-{registration.protocol}-against-{other}"))


def _print_dry_run(study: Any, *, as_json: bool) -> None:
    trials = [{"arm": fit.arm, "seed": fit.seed, "fingerprint": fit.fingerprint} for fit in study.trials()]
    if as_json:
        print_json({"study": study.name, "protocol": study.protocol.name, "trials": trials})
        return
    print_table(("arm", "seed", "fingerprint"), [tuple(trial.values()) for trial in trials])
    click.echo(f"{len(trials)} trials; nothing was trained and nothing was written.")


def _arms(record: Any) -> tuple[str, ...]:
    """The arms, and the donors that are none of them."""
    registration = record.registration
    tested = (name for names in registration.tested.values() for name in names)
    return tuple(dict.fromkeys((*registration.arms, *registration.donors.values(), *tested)))


def _states(record: Any) -> dict[str, dict[int, dict[str, Any]]]:
    """Per arm and seed, the state and the test error, percent (``null`` where there is none)."""
    found = {arm: {seed: record.of(arm, seed) for seed in record.registration.seeds} for arm in _arms(record)}
    return {
        arm: {
            seed: {
                "state": trial.state if trial else "waiting",
                "test_error": trial.result.metrics.get("test_error") if trial and trial.result else None,
            }
            for seed, trial in row.items()
        }
        for arm, row in found.items()
    }


def _cell(trial: Any) -> str:
    if trial is None:
        return "waiting"
    if trial.state == "finished":
        return f"{trial.result.metrics['test_error']:.2f} %"
    if trial.state == "running" and "validation_error" in trial.progress:
        return f"running, {trial.progress['validation_error']:.1f} % on validation"
    return str(trial.state)


def _protocol_row(name: str) -> dict[str, Any]:
    protocol = protocols.load(name)
    return {"name": name, "seeds": list(protocol.seeds), "about": protocol.note.strip().splitlines()[0]}


for command in upkeep.COMMANDS:
    main.add_command(command)


def program() -> None:
    """What `ablate` is: the command line in a process of its own."""
    run_and_leave(main)


if __name__ == "__main__":
    program()
