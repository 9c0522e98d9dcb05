"""``ablate evaluate``: weights from a file, ours or torchvision's, on an image folder; and what it says of mistakes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image

from lightning_modules.data.datasets import split_train_validation
from lightning_modules.data.image_index import index_image_folder
from lightning_modules.data.normalization import channel_statistics
from lightning_modules.data.streaming import ImageFileDataModule, ImageFolderSplit
from lightning_modules.data.types import DataError
from lightning_modules.evaluation.inference import restore_scorer
from lightning_modules.networks.build import build_network
from lightning_modules.networks.pretrained import TORCHVISION_PREPROCESSING, load_pretrained, match_state_dict
from lightning_modules.profiling.profile import profile_spec
from lightning_modules.specs.catalogue import VGG_A, find_network
from lightning_modules.specs.data import Data
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.recipe import Recipe
from lightning_modules.specs.scale import Scale
from studies.cli.app import main
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.inspection import folder_evaluation
from studies.inspection.folder_evaluation import find_trial_setup
from studies.storage.manifest import ManifestEntry, StudyManifest
from studies.storage.trial_folder import TrialFolder
from studies.training.train import train_trial
from tests.reports.records import registration

CPU = torch.device("cpu")
TWINS = {
    **{f"vgg{layers}{norm}": f"vgg-{letter}" for layers, letter in ((11, "a"), (13, "b"), (16, "d"), (19, "e"))
       for norm in ("", "_bn")},
    "resnet18": "resnet-18", "resnet34": "resnet-34", "resnet50": "resnet-50",
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), TWINS.items())
def test_torchvisions_state_dicts_are_matched_by_place(theirs, ours):
    with torch.device("meta"):
        state = getattr(torchvision.models, theirs)().state_dict()
    found = match_state_dict(find_network(ours), Scale(), state, "given")
    assert found.preprocessing == TORCHVISION_PREPROCESSING
    with torch.device("meta"):
        own = build_network(found.network, Scale()).state_dict()
    assert {name: each.shape for name, each in own.items()} == {
        name: each.shape for name, each in found.state_dict.items()
    }
    assert getattr(found.network, "norm", "batch") == (
        "none" if theirs in ("vgg11", "vgg13", "vgg16", "vgg19") else "batch"
    )


def test_torchvisions_bottlenecks_are_refused_for_a_network_with_the_stride_in_the_first_1x1():
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
    with pytest.raises(UserError, match=r"given are torchvision's, .* Name the network without -v1: resnet-50"):
        match_state_dict(find_network("resnet-50-v1"), Scale(), state, "given")


@pytest.mark.parametrize("theirs", ["vgg11_bn", "resnet18"])
def test_they_give_torchvisions_logits(theirs):
    torch.manual_seed(0)
    model = getattr(torchvision.models, theirs)(num_classes=10).eval()
    for name, tensor in model.state_dict().items():  # as after training: no running statistic is a default
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    scale = Scale(classes=10)
    found = match_state_dict(find_network(TWINS[theirs]), scale, model.state_dict(), "given")
    module = build_network(found.network, scale).eval()
    module.load_state_dict(found.state_dict)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(module(images), model(images), rtol=1e-5, atol=1e-5)


def cache_weights(home, state_dict, file_name):
    """Store weights where torchvision would have downloaded them to; return the file."""
    file = home / "hub" / "checkpoints" / file_name
    file.parent.mkdir(parents=True)
    torch.save(state_dict, file)
    return file


@pytest.mark.parametrize(
    ("version", "file_name", "side"),
    [("IMAGENET1K_V1", "resnet50-0676ba61.pth", 256), ("IMAGENET1K_V2", "resnet50-11ad3fa6.pth", 232)],
)
def test_torchvisions_weights_are_evaluated_at_their_own_side(tmp_path, monkeypatch, version, file_name, side):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scale = Scale(width=0.0625, classes=2)
    file = cache_weights(tmp_path, build_network(find_network("resnet-50"), scale).state_dict(), file_name)
    write(tmp_path / "data" / "test", np.zeros((2, 240, 240, 1), dtype=np.uint8), (0, 1))
    for weights in (f"torchvision:ResNet50_Weights.{version}", file):
        shown = evaluated(
            "--weights", weights, "--data", tmp_path / "data", "--width", "0.0625", "--json", name="resnet-50"
        )
        assert json.loads(shown)["sides"] == [side]


def test_torchvisions_weights_bring_their_own_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scale = Scale(width=0.0625, classes=2)
    network = find_network("vgg-d")
    cache_weights(tmp_path, build_network(network, scale).state_dict(), "vgg16_features-amdegroot-88682ab5.pth")
    found = load_pretrained(network, scale, "torchvision:VGG16_Weights.IMAGENET1K_FEATURES").preprocessing
    assert found.mean == pytest.approx((123, 117, 104), abs=0.01)
    assert found.std == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("transform_input", [False, True])
def test_torchvisions_googlenet_gives_torchvisions_logits(tmp_path, monkeypatch, transform_input):
    """torchvision builds it with ``transform_input`` for its weights, which the catalogue's network has not."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(num_classes=2, init_weights=False, transform_input=True).eval()
    cache_weights(tmp_path, theirs.state_dict(), "googlenet-1378be20.pth")
    network = find_network("googlenet")
    network = replace(network, init_args={**network.init_args, "transform_input": transform_input})
    found = load_pretrained(network, Scale(classes=2), "torchvision:GoogLeNet_Weights.IMAGENET1K_V1")
    ours = build_network(found.network, Scale(classes=2)).eval()
    ours.load_state_dict(found.state_dict)
    pixels = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()

    def normalized(mean, std):
        return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    with torch.no_grad():
        expected = theirs(normalized(TORCHVISION_PREPROCESSING.mean, TORCHVISION_PREPROCESSING.std))
        given = ours(normalized(found.preprocessing.mean, found.preprocessing.std))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def write(folder, images, labels):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(place / f"{number:04d}.png")


@pytest.fixture(scope="module")
def trial(small, digits, tmp_path_factory):
    """A trained network, its result, and its data as an image folder: all the test images, some to train on."""
    folder = tmp_path_factory.mktemp("evaluate")
    digests = dict.fromkeys(("data", "code", "platform"), "")
    result = train_trial(
        Trial(arm="A", setup=small, seed=0), digits, folder / "trial", digests=digests, machine=Machine()
    )
    write(folder / "data" / "test", digits.test_images, digits.test_labels)
    write(folder / "data" / "train", digits.train_images[:60], digits.train_labels[:60])
    used, _ = split_train_validation(digits.train_labels, small.data, seed=0)
    mean, deviation = channel_statistics(torch.from_numpy(digits.train_images[used]))
    return folder, result, [f"--mean={mean[0]}", f"--std={deviation[0]}"]


OF_DIGITS = ("--resolution", "32", "--channels", "1", "--width", "0.0625")


def evaluated(*options, name="vgg-a", expect=0):
    given = CliRunner().invoke(main, ["evaluate", name, *map(str, options)])
    assert given.exit_code == expect, given.output
    return given.output


def test_a_trials_weights_give_its_own_test_errors(trial):
    folder, result, statistics = trial
    shown = evaluated(
        "--weights", folder / "trial" / "weights.pt", "--data", folder / "data", *OF_DIGITS, *statistics, "--json"
    )
    found = json.loads(shown)
    assert found["top1_error"] == result.metrics["test_error"]
    assert found["top5_error"] == result.metrics["test_top5_error"]
    assert (found["images"], found["classes"], found["sides"], found["mirrored"]) == (1197, 10, [32], False)
    assert (
        found["multiply_adds"]
        == profile_spec(VGG_A, Scale(resolution=32, channels=1, classes=10, width=0.0625)).multiply_adds
    )
    assert found["images_per_second"] > 0


def test_a_trials_weights_are_evaluated_in_its_precision_and_at_its_side(trial, small, tmp_path, monkeypatch):
    folder, _, statistics = trial
    recipe = replace(small.recipe, precision="bfloat16", augmentation="crop-flip", side_from=1.25, side_to=1.5)
    planned = Trial(arm="A", setup=replace(small, recipe=recipe), seed=0)
    manifest = StudyManifest(
        registration=registration(), conditions="", tags={}, labels=np.zeros(1, np.uint16),
        entries=(ManifestEntry(trial=planned, digests={}, tags={}, folder="trial"),),
    )  # fmt: skip
    manifest.write(tmp_path / "studies" / "planned")
    (tmp_path / "studies" / "damaged").mkdir()
    (tmp_path / "studies" / "damaged" / "study.json").write_text("{")
    shutil.copytree(folder / "trial", tmp_path / "trials" / "trial")
    weights = tmp_path / "trials" / "trial" / "weights.pt"
    assert find_trial_setup(str(weights)) == planned.setup
    assert find_trial_setup(str(folder / "trial" / "weights.pt")) is None
    options = ("--data", folder / "data", *OF_DIGITS, *statistics, "--json")
    restored = []
    monkeypatch.setattr(
        folder_evaluation, "restore_scorer", lambda *given: restored.append(restore_scorer(*given)) or restored[-1]
    )
    assert json.loads(evaluated("--weights", weights, *options))["sides"] == [44]
    assert json.loads(evaluated("--weights", weights, *options, "--sides", "32"))["sides"] == [32]
    assert json.loads(evaluated("--weights", folder / "trial" / "weights.pt", *options))["sides"] == [32]
    assert [scorer.is_bfloat16 for scorer in restored] == [True, True, False]


def test_other_modes_and_sides_are_asked_for_in_pixels_and_told_in_a_table(trial):
    folder, _, _ = trial
    shown = evaluated(
        "--weights", folder / "trial" / "weights.pt", "--data", folder / "data", *OF_DIGITS, "--mode", "dense",
        "--sides", "32,64", "--not-mirrored",
    )  # fmt: skip
    assert "top-5 error" in shown
    assert "dense" in shown
    assert "1197" in shown


def test_images_of_any_size_are_rescaled_in_order_in_batches_of_one_shape(tmp_path):
    sizes = [(40, 60), (40, 60), (80, 40), (33, 33), (40, 60)]
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        place = tmp_path / "val" / ("a" if number < 3 else "b")
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    part = ImageFolderSplit(tmp_path, Scale(resolution=32, channels=3), CPU)
    batches = list(part.rescaled_batches(40))
    assert [tuple(images.shape) for images, _ in batches] == [
        (2, 3, 60, 40),
        (1, 3, 40, 80),
        (1, 3, 40, 40),
        (1, 3, 60, 40),
    ]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 0, 1, 1]
    assert all(images.shape[2:] == (32, 32) for images, _ in part.evaluation_batches())
    part.set_normalization([100.0] * 3, [50.0] * 3)
    torch.testing.assert_close(next(part.rescaled_batches(40))[0], (batches[0][0] - 100) / 50)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the image .*a/broken\.jpg: .*\. Fix or remove it\."):
        list(ImageFolderSplit(tmp_path, Scale(resolution=32), CPU).rescaled_batches(32))


def test_the_statistics_are_those_of_the_folders_training_images(trial, digits):
    folder, _, _ = trial
    part = ImageFolderSplit(folder / "data", Scale(resolution=32, channels=1), CPU)
    mean, deviation = channel_statistics(torch.from_numpy(digits.train_images[np.arange(60)]))
    assert part.training_statistics() == ([pytest.approx(mean[0])], [pytest.approx(deviation[0])])


@pytest.fixture(scope="module")
def mistakes(trial, tmp_path_factory):
    """Files and folders that are wrong in one way each."""
    root = tmp_path_factory.mktemp("mistakes")
    (root / "text.pt").write_text("no weights")
    torch.save({"epoch": 3, "state_dict": {}}, root / "checkpoint.pt")
    five = Scale(resolution=32, channels=1, classes=5, width=0.0625)
    torch.save(build_network(VGG_A, five).state_dict(), root / "five.pt")
    (root / "empty").mkdir()
    diverged = build_network(VGG_A, replace(five, classes=10)).state_dict()
    diverged["head.fc3.bias"].fill_(float("nan"))
    torch.save(diverged, root / "diverged.pt")
    for name in ("0", "1"):
        (root / "test-only" / "test" / name).mkdir(parents=True)
        Image.new("L", (40, 40)).save(root / "test-only" / "test" / name / "image.png")
    torch.save(build_network(VGG_A, replace(five, classes=2)).state_dict(), root / "two.pt")
    parallel = {f"module.{name}": tensor for name, tensor in torch.load(root / "two.pt").items()}
    torch.save(parallel, root / "parallel.pt")
    return root


@pytest.mark.parametrize(
    ("weights", "data", "more", "text"),
    [
        ("nowhere.pt", None, (), "there is no file"),
        ("text.pt", None, (), "text.pt cannot be read as weights ("),
        ("checkpoint.pt", None, (), "checkpoint.pt holds a dict of epoch, state_dict; expected a state dict"),
        ("five.pt", None, (), "five.pt has 5 classes (head.fc3.bias), but the folder has 10. Expected a folder with"),
        (None, None, ("--width", "0.125"), "does not fit the network at 32 pixels, 1 channels and width 0.125: stage1"),
        (None, "empty", (), "empty has neither test/<class>/ nor val/<class>/; expected one of them, with images."),
        ("two.pt", "test-only", (), "test-only has no train/<class>/, and a network must be evaluated with the"),
        (None, None, ("--sides", "31,64"), "--sides has a side of 31 pixels; expected 32 or more, the side of a crop"),
        ("parallel.pt", "test-only", (), "has tensors of the right shapes under other names: module.stage1.conv1"),
        ("parallel.pt", "test-only", (), "Remove the prefix 'module.' of the names, and save the state dict again."),
        (None, None, ("--sides", "64,64"), "--sides is [64, 64]; expected sides that differ from each other, pixels"),
        (None, None, ("--sides", "x"), "'x' is not a list of numbers, such as 256,384,512."),
        (None, None, ("--mean", "0", "--std", "0"), "--std is [0.0]; expected finite numbers, and standard deviations"),
        (None, None, ("--mean", "0", "--std", "-1"), "--mean is [0.0] and --std is [-1.0]; expected finite numbers"),
        (None, None, ("--mean", "0", "--std", "nan"), "--mean is [0.0] and --std is [nan]; expected finite numbers"),
        (None, None, ("--mean", "inf", "--std", "1"), "--mean is [inf] and --std is [1.0]; expected finite numbers"),
        ("diverged.pt", None, ("--mean", "0", "--std", "1"), "vgg-a gives outputs that are not finite numbers for im"),
        (None, None, ("--mean", "1,2"), "--mean is [1.0, 2.0] and --std is []; expected both, with one number per "),
        ("torchvision:VGG17_Weights.X", None, (), "torchvision has no weights 'VGG17_Weights'. Did you mean 'VGG1"),
        ("torchvision:VGG16_Weights.V9", None, (), "VGG16_Weights has no version 'V9'; there are: IMAGENET1K_V1, "),
        ("torchvision:VGG16_Weights.IMAGENET1K_V1", None, (), "Have torchvision download it once: python -c 'from"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_to_do(trial, mistakes, monkeypatch, weights, data, more, text):
    monkeypatch.setenv("TORCH_HOME", str(mistakes / "no-cache"))
    folder, _, _ = trial
    file = folder / "trial" / "weights.pt" if weights is None else weights
    file = file if weights is None or weights.startswith("torchvision:") else mistakes / weights
    place = mistakes / data if data else folder / "data"
    shown = evaluated("--weights", file, "--data", place, *OF_DIGITS, *more, expect=2)
    assert text in " ".join(shown.split())


def test_weights_that_are_not_those_of_the_result_beside_them_are_refused(trial, tmp_path):
    folder, result, statistics = trial
    copy = TrialFolder(shutil.copytree(folder / "trial", tmp_path / "trial"))
    copy.write_result(result)
    options = ("--weights", copy.weights, "--data", folder / "data", *OF_DIGITS, *statistics, "--json")
    evaluated(*options)
    content = bytearray(copy.weights.read_bytes())
    content[len(content) // 2] ^= 1
    copy.weights.write_bytes(content)
    shown = " ".join(evaluated(*options, expect=1).split())
    assert f"{copy.weights} cannot be used: its checksum is not that of the trial's result" in shown


def test_the_wrong_network_is_told_by_its_first_tensor_of_another_shape(trial):
    folder, _, _ = trial
    options = ("--weights", folder / "trial" / "weights.pt", "--data", folder / "data", *OF_DIGITS)
    assert "stage2.conv1.weight is (8, 4, 3, 3), expected stage1.conv2.weight (4, 4, 3, 3)" in evaluated(
        *options, name="vgg-d", expect=2
    )
    assert "No network named 'vgg-x'. Did you mean" in evaluated(*options, name="vgg-x", expect=2)


def test_a_trials_own_reader_of_files_shows_the_same_images(tmp_path):
    random = np.random.default_rng(0)
    for number, part in enumerate(("train", "train", "train", "test", "test", "test")):
        for name in ("a", "b"):
            place = tmp_path / part / name
            place.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (40 + 8 * (number % 2), 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    scale, data = Scale(resolution=32, classes=2), Data(source="folder", validation_fraction=0.3, keep="originals")
    recipe = Recipe(augmentation="crop-flip", side_from=8 / 7, side_to=8 / 7)
    read = index_image_folder(data, scale, tmp_path, tmp_path / "cache", lambda _: None)
    own = ImageFileDataModule(read, data, recipe, scale, 0, CPU)
    folder = ImageFolderSplit(tmp_path, scale, CPU)
    folder.set_normalization(own.test.normalization.mean.tolist(), own.test.normalization.std.tolist())
    for (mine, labels), (theirs, same) in zip(folder.rescaled_batches(37), own.test.rescaled_batches(37), strict=True):
        assert torch.equal(labels, same)
        assert float(((mine - theirs) * own.test.normalization.std[:, None, None]).abs().max()) <= 1.01
