"""Commands about single networks: profile, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lightning_modules.specs.test import TEST_MODES
from studies.cli.common.completers import complete_network
from studies.cli.common.number_ranges import IntegerRange
from studies.cli.common.options import format_examples, json_option
from studies.cli.common.parameters import NumbersParam
from studies.console.tables import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studies.inspection.block_profiles import BlockProfile
    from studies.inspection.folder_evaluation import FolderEvaluation
    from studies.inspection.network_profiles import NetworkProfile


width_option = click.option(
    "--width", type=float, default=1.0, show_default=True, metavar="FACTOR", help="Factor on the width of every layer."
)

channels_option = click.option(
    "--channels",
    type=IntegerRange(1, 4096),
    default=3,
    show_default=True,
    metavar="N",
    help="Channels of the input image.",
)


@click.command(
    epilog=format_examples(
        "ablate profile vgg-d",
        "ablate profile depth --resolution 32 --classes 10",
        "ablate profile vgg-e resnet-34 --pictures figures",
        "ablate profile 'conv 11x11 64->128' 'conv 3x3 64->128 | conv 3x3 128->128 | conv 3x3 128->128'",
    )
)
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True, shell_complete=complete_network)
@click.option(
    "--resolution",
    type=IntegerRange(1, 65536),
    default=224,
    show_default=True,
    metavar="PIXELS",
    help="Side of the input image, pixels; of a block, of its input map.",
)
@click.option(
    "--classes", type=IntegerRange(2, 10**7), default=1000, show_default=True, metavar="N", help="Number of classes."
)
@channels_option
@width_option
@click.option(
    "--pictures", type=click.Path(file_okay=False, path_type=Path), help="Folder to write figures of the profiles to."
)
@json_option
def profile(
    names: tuple[str, ...],
    resolution: int,
    classes: int,
    channels: int,
    width: float,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Profile networks: parameters, multiply-adds, receptive field.

    One network is shown layer by layer, several are compared side by side.

    NETWORK is a network of the catalogue (vgg-d), an arm of an ablation (depth/E), or an ablation, for all its arms.
    It may also be a block, in quotes: layers between bars, from the input on.

    \b
      conv KxK IN->OUT [stride N] [groups N] [dilation N] [no-bias]
      maxpool KxK [stride N]    avgpool KxK [stride N]    batchnorm    relu

    Windows are padded so that stride alone shrinks the map. Multiply-adds of a block are those of one position of its
    output map, or with --resolution those of an input map of that side.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with a backspace
    from lightning_modules.specs.scale import Scale
    from studies.console.profiles import print_profile, print_profiles
    from studies.inspection.block_profiles import is_block
    from studies.inspection.network_profiles import expand_names, profile_network

    if any(map(is_block, names)):
        _profile_blocks(names, as_json=as_json)
        return
    scale = Scale(resolution=resolution, classes=classes, channels=channels, width=width)
    # No data are read and no weights are allocated: profiling runs on the meta device.
    profiles = [profile_network(name, scale) for name in expand_names(names)]
    figure_paths = _draw_profiles(profiles, pictures)
    if as_json:
        _print_profiles_json(profiles, figure_paths)
        return
    if len(profiles) == 1:
        print_profile(profiles[0])
    else:
        print_profiles(profiles)
    for path in figure_paths:
        click.echo(path)


def _profile_blocks(texts: Sequence[str], *, as_json: bool) -> None:
    """Profile blocks of layers, which state their own channels and have no classes.

    Raises:
        click.UsageError: for a network among them, or an option that blocks do not take.
    """
    from studies.console.profiles import print_profile, print_profiles
    from studies.inspection.block_profiles import is_block, profile_block

    for text in texts:
        if not is_block(text):
            raise click.UsageError(
                f"{text!r} is no block of layers, and blocks are counted per position of their output; profile "
                "networks and blocks in two commands."
            )
    given = _options_given("resolution", "classes", "channels", "width", "pictures")
    refused = [f"--{name}" for name in given if name != "resolution"]
    if refused:
        raise click.UsageError(f"{', '.join(refused)}: only for networks; a block states its own channels.")
    resolution = given.get("resolution")
    profiles = [profile_block(text, resolution) for text in dict.fromkeys(texts)]
    if as_json:
        _print_profiles_json(profiles, ())
        return
    if len(profiles) == 1:
        print_profile(profiles[0])
    else:
        print_profiles(profiles)
    if resolution:
        click.echo(f"Multiply-adds: of an input map of {resolution} x {resolution}.")
    else:
        click.echo("Multiply-adds: of one position of the output map; --resolution PIXELS counts a whole map.")


def _options_given(*names: str) -> dict[str, Any]:
    """Values of the options that the command line itself has, without defaults."""
    context = click.get_current_context()
    return {
        name: context.params[name]
        for name in names
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }


def _draw_profiles(profiles: Sequence[NetworkProfile], folder: Path | None) -> list[str]:
    if folder is None:
        return []
    from reports.figures.network_profiles import write_profile_figures

    return list(map(str, write_profile_figures(profiles, folder)))


def _print_profiles_json(profiles: Sequence[NetworkProfile | BlockProfile], figure_paths: Sequence[str]) -> None:
    """Print the profile itself where there is one, so that a script need not unpack a list."""
    if len(profiles) == 1:
        data = profiles[0].as_data()
    else:
        data = {"networks": [network_profile.as_data() for network_profile in profiles]}
    if figure_paths:
        data["pictures"] = figure_paths
    print_json(data)


@click.command(
    epilog=format_examples(
        "ablate evaluate vgg-d --weights torchvision:VGG16_Weights.IMAGENET1K_V1 --data imagenet",
        "ablate evaluate vgg-d --weights weights.pt --data imagenet --mode dense --sides 256,384,512",
    )
)
@click.argument("network", shell_complete=complete_network)
@click.option(
    "--weights",
    required=True,
    metavar="FILE",
    help="Weights: a trial's weights.pt, torchvision's .pth, or torchvision:VGG16_Weights.IMAGENET1K_V1 (cached).",
)
@click.option(
    "--data",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Image folder with test/<class>/ or val/<class>/.",
)
@click.option(
    "--mode",
    type=click.Choice(TEST_MODES),
    default="single",
    show_default=True,
    help="Views of an image whose predictions are averaged.",
)
@click.option(
    "--sides",
    type=NumbersParam(int),
    default=(),
    help="Shorter sides to rescale images to, pixels, such as 256,384,512.  [default: as in training]",
)
@click.option(
    "--mirrored/--not-mirrored",
    default=True,
    show_default=True,
    help="Evaluate every view mirrored as well, unless the mode is single.",
)
@click.option(
    "--resolution",
    type=IntegerRange(1, 65536),
    default=224,
    show_default=True,
    metavar="PIXELS",
    help="Side of a crop, pixels.",
)
@channels_option
@width_option
@click.option(
    "--mean",
    type=NumbersParam(float),
    default=(),
    help="Mean of the training pixels (0 to 255), one number per channel.  [default: see above]",
)
@click.option(
    "--std",
    type=NumbersParam(float),
    default=(),
    help="Standard deviation of the training pixels (0 to 255), one number per channel.  [default: see above]",
)
@click.option("--deviation", type=NumbersParam(float), default=(), hidden=True)  # the former name of --std
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True, help="Device to evaluate on."
)
@json_option
def evaluate(
    device: str, std: tuple[float, ...], deviation: tuple[float, ...], as_json: bool, **request_fields: Any
) -> None:
    """Evaluate saved weights on an image folder.

    Prints the top-1 and top-5 error, the throughput and the multiply-adds.

    NETWORK is a network of the catalogue (vgg-d) or an arm of an ablation (depth/E). Pixels are normalized by --mean
    and --std, else as torchvision does for its own weights, else by the images in the folder's train/<class>/.
    Weights in a trial's folder are evaluated in that trial's precision.
    """
    # Imported here: both load torch.
    import torch

    from studies.inspection.folder_evaluation import EvaluationRequest, evaluate_folder

    request = EvaluationRequest(std=std or deviation, **request_fields)
    evaluation = evaluate_folder(request, torch.device(device))
    if as_json:
        print_json(vars(evaluation))
        return
    _print_evaluation(evaluation)


def _print_evaluation(evaluation: FolderEvaluation) -> None:
    header = ("mode", "top-1 error", "top-5 error", "images/s", "multiply-adds per image", "images", "classes")
    top5_error = "–" if evaluation.top5_error is None else f"{evaluation.top5_error:.2f} %"
    row = (
        evaluation.mode,
        f"{evaluation.top1_error:.2f} %",
        top5_error,
        f"{evaluation.images_per_second:.1f}",
        f"{evaluation.multiply_adds:,}",
        evaluation.images,
        evaluation.classes,
    )
    print_table(header, [row])


COMMANDS = (profile, evaluate)
