"""Writing and checking ablation files: what `ablate new` writes, and what `ablate check` says of broken files."""

import json
from itertools import count
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from studies.cli.app import main

ROOT = Path(__file__).parents[3]
SCHEMAS = json.loads((ROOT / "docs/commands.schema.json").read_text(encoding="utf-8"))["$defs"]
EXAMPLES = ROOT / "examples"
LAST_LAYER = "        nn.Linear(32, classes),\n"
NUMBERS = count()
FIRST_FUNCTION = "def network("


def call(*arguments, code=0):
    shown = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert shown.exit_code == code, shown.output
    return shown


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(file, *options, code=0):
    """The findings of `ablate check`."""
    shown = json.loads(call("check", file, *options, "--json", code=code).stdout)
    jsonschema.validate(shown, SCHEMAS["check"])
    assert shown["passed"] == (code == 0)
    return shown["findings"]


def errors_of(file, *options):
    return [row for row in check(file, *options, code=1) if row["level"] == "error"]


def write_setting():
    name = f"my_momentum_{next(NUMBERS)}"  # a process loads one file of a name
    call("new", name, "--setting", "recipe.momentum=0.0,0.9")
    return Path(f"{name}.py")


def write_module(name, *replacements):
    call("new", name, "--module")
    file = Path(f"{name}.py")
    text = file.read_text(encoding="utf-8")
    for before, after in replacements:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")
    return f"./{file}"


def with_last_layer(forward):
    """Replacements that put a layer of one line after the last one."""
    layer = f"class Last(nn.Module):\n    def forward(self, x):\n        return {forward}\n\n\n"
    return (LAST_LAYER, f"{LAST_LAYER}        Last(),\n"), (FIRST_FUNCTION, layer + FIRST_FUNCTION)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("two_networks", (), marks=pytest.mark.slow),
        pytest.param("three", ("--networks", "vgg-a,vgg-b,resnet-20"), marks=pytest.mark.slow),
        ("one_setting", ("--setting", "network.norm=none,batch")),
        pytest.param("own_networks", ("--module", "--into", "experiments/first"), marks=pytest.mark.slow),
    ],
)
def test_every_new_file_passes_the_check(name, options):
    written = json.loads(call("new", name, *options, "--json").stdout)
    jsonschema.validate(written, SCHEMAS["new"])
    findings = check(written["file"] if "/" in written["file"] else f"./{written['file']}")
    assert {row["level"] for row in findings} == {"ok"}
    assert {row["step"] for row in findings} == {"file", "claims", "one change", "networks", "data", "batch"}


@pytest.mark.slow
def test_the_check_of_a_factorial_names_what_changes_with_each_factor():
    findings = [row["finding"] for row in check("residual") if row["step"] == "one change"]
    assert "the factor shortcuts (plain, residual) changes network.shortcut" in findings
    assert "the factor depth (shallow, deep) changes network.stages.*.count" in findings


def test_a_new_file_tells_what_to_do_next():
    shown = call("new", "my_depth").output
    assert "./my_depth.py is written." in shown
    assert "ablate check ./my_depth.py" in shown
    shown = call("new", "my_classics", "--networks", "vgg-a,alexnet").output  # which takes color images
    assert "ablate check ./my_classics.py --protocol imagenet" in shown


def test_commands_for_a_folder_with_a_space_can_be_pasted_into_a_shell():
    shown = call("new", "mine", "--into", "my studies").output
    assert "my studies/mine.py is written." in shown
    assert "ablate check 'my studies/mine.py'" in shown
    assert "'my studies/mine.py'" in Path("my studies/mine.py").read_text(encoding="utf-8")


def test_a_module_in_the_folder_of_this_package_is_named_by_its_path_there(monkeypatch):
    monkeypatch.setattr("ablations._discovery.ABLATIONS_FOLDER", Path("ablations").resolve())
    call("new", "my_package_part", "--module", "--into", "ablations")
    text = Path("ablations/my_package_part.py").read_text(encoding="utf-8")
    assert 'class_path="ablations.my_package_part.network"' in text
    call("new", "my_own_part", "--module", "--into", "other")
    assert 'class_path="my_own_part.network"' in Path("other/my_own_part.py").read_text(encoding="utf-8")


def test_an_existing_file_is_left_as_it_is():
    Path("mine.py").write_text("x = 1\n", encoding="utf-8")
    assert "mine.py exists, and is left as it is" in call("new", "mine", code=2).output
    assert Path("mine.py").read_text(encoding="utf-8") == "x = 1\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("moto",), "'moto' is the name of"),  # installed
        (("depth",), "that is the name of an ablation of this package"),
        (("json",), "a module of Python's standard library"),
        (("lambda",), "is a word of Python's own"),
        (("my name",), "not a valid file name"),
        (("a/b",), "'a/b' is a path; expected a name, and its folder after --into."),
        (("my-own", "--module"), "needs a name without '-'"),
        (("x", "--setting", "recipe.momentum"), "expected PATH=A,B, such as recipe.momentum=0.0,0.9."),
        (("x", "--setting", "recipe.momentum=0.5"), "expected two values or more"),
        (("x", "--setting", "momentum=0.5,0.9"), "Did you mean 'recipe.momentum'?"),
        (("x", "--setting", "recipe.epochs=1,many"), "'many' cannot be read as a whole number"),
        (("x", "--setting", "recipe.schedule=cosine,cosin"), "Did you mean 'cosine'?"),
        (("x", "--setting", "recipe.epochs=5,05"), "are the same setup"),
        (("x", "--networks", "vgg-a,vgg-f"), "No network named 'vgg-f'."),
        (("x", "--networks", "vgg-a,vgg-a"), "names a network twice"),
        (("x", "--networks", "vgg-a,vgg-b", "--module"), "expected one of them"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_in_one_line(arguments, text, own_folder):
    shown = call("new", *arguments, code=2).output
    assert text in shown
    assert not list(own_folder.iterdir())


@pytest.mark.parametrize(
    ("before", "after", "step", "text"),
    [
        ("question=__doc__,", "question=__doc__", "file", "line 13: SyntaxError: invalid syntax"),
        ("ABLATION =", "ABLATON =", "file", "must define ABLATION = Ablation(...); its ablation is called ABLATON."),
        ('"""Is', '# """Is', "file", "an ablation needs a question: give the file a docstring"),
        ("from ablations", "import no_such_module\nfrom ablations", "file", "No module named 'no_such_module'"),
        ("from ablations", "import sys\nsys.exit(0)\nfrom ablations", "file", "SystemExit"),
        ("0.9}", '0.9, "recipe.learning_rate": 0.1}', "one change", "recipe.learning_rate: 0.01 -> 0.1"),
        ("0.9}", "0.0}", "file", "are the same setup: there is nothing to compare"),
        ("0.9}", '"much"}', "file", "Recipe.momentum is 'much'; expected a finite number."),
        ('over="momentum', 'over="moment', "file", "Did you mean 'momentum 0.0'?"),
    ],
)
def test_a_file_that_declares_no_valid_ablation_gets_one_finding(before, after, step, text):
    file = write_setting()
    written = file.read_text(encoding="utf-8")
    assert before in written
    file.write_text(written.replace(before, after), encoding="utf-8")
    (error,) = errors_of(f"./{file}")
    assert error["step"] == step
    assert text in error["finding"]


def test_a_file_without_claims_is_told_that_nothing_gets_a_verdict():
    file = write_setting()
    text = file.read_text(encoding="utf-8")
    start = text.index("    claims=")
    file.write_text(f"{text[:start]})\n", encoding="utf-8")
    warning = next(row for row in check(f"./{file}") if row["level"] == "warning")
    assert warning["step"] == "claims"
    assert warning["advice"] == 'such as claims=(Helps(arm="momentum 0.9", over="momentum 0.0"),)'


@pytest.mark.parametrize(
    ("name", "replacements", "step", "text"),
    [
        ("unbuilt", (("nn.Conv2d(16, 32", "nn.Conv2d(17, 32"),), "networks", "in 4 (Conv2d): it takes 17 channels"),
        pytest.param(
            "raising",
            (("    return nn.Seq", "    1 / 0\n    return nn.Seq"),),
            "networks",
            "ZeroDivisionError",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "six_classes",
            (("nn.Linear(32, classes)", "nn.Linear(32, 6)"),),
            "networks",
            "gives the shape (1, 6) for one image",
            marks=pytest.mark.slow,
        ),
        ("no_number", with_last_layer("(x - 1e6).log()"), "batch", "the loss of the first batch, 32 images, is nan"),
        pytest.param(
            "cut",
            with_last_layer("x.detach()"),
            "networks",
            "no weight takes part in its outputs",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_told_by_arm(name, replacements, step, text):
    errors = errors_of(write_module(name, *replacements))
    assert [row["finding"].partition(":")[0] for row in errors] == ["relu", "gelu"]
    assert all(row["step"] == step and text in row["finding"] for row in errors)


@pytest.mark.slow
def test_equal_networks_under_two_names_are_an_error():
    (error,) = errors_of(write_module("same", ("nn.GELU", "nn.ReLU")))
    assert "their instantiated networks are equal, module by module" in error["finding"]


@pytest.mark.slow
def test_layers_without_a_gradient_are_a_warning():
    pool = "        nn.AdaptiveAvgPool2d(1),\n"
    detach = "class Cut(nn.Module):\n    def forward(self, x):\n        return x.detach()\n\n\n"
    file = write_module("half", (pool, f"        Cut(),\n{pool}"), (FIRST_FUNCTION, detach + FIRST_FUNCTION))
    warnings = [row for row in check(file) if row["level"] == "warning"]
    assert len(warnings) == 2
    assert "8 of 10 weight tensors: each gets no gradient (0.weight, 0.bias" in warnings[0]["finding"]
    assert ".detach()" in warnings[0]["advice"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "after", "level", "text"),
    [
        ("nan", "smoothing=self.smoothing)", 'smoothing=self.smoothing) * float("nan")', "error", "NaN or infinite"),
        ("raises", "images, labels = batch", "images, labels, _ = batch", "error", "ValueError: not enough values"),
        ("part", "self.parameters(), lr", "self.network[-1].parameters(), lr", "warning", "12 of 14 weight tensors"),
    ],
)
def test_a_module_that_trains_itself_takes_a_step(name, before, after, level, text):
    networks = (EXAMPLES / "my_networks.py").read_text(encoding="utf-8")
    ablation = (EXAMPLES / "my_ablation.py").read_text(encoding="utf-8")
    Path(f"net_{name}.py").write_text(networks.replace(before, after), encoding="utf-8")
    Path(f"own_{name}.py").write_text(ablation.replace("my_networks.Own", f"net_{name}.Own"), encoding="utf-8")
    findings = check(f"./own_{name}.py", code=1 if level == "error" else 0)
    found = [row for row in findings if row["level"] != "ok"]
    assert [row["level"] for row in found] == [level, level]
    assert text in found[0]["finding"]


@pytest.mark.slow
def test_missing_data_are_told_and_the_batches_are_random(own_folder):
    file = write_setting()
    options = ("--protocol", "imagenet", "--set", "scale.width=0.1", "--data-root", own_folder / "none")
    findings = check(f"./{file}", *options, code=1)
    (error,) = [row for row in findings if row["level"] == "error"]
    assert error["step"] == "data"
    assert f"no folder {own_folder / 'none' / 'train'}" in error["finding"]
    assert "on 10 random images" in findings[-1]["finding"]


@pytest.mark.slow
def test_a_wrong_number_of_classes_is_an_error_of_the_data():
    (error,) = errors_of(f"./{write_setting()}", "--set", "scale.classes=7")
    assert error["finding"] == "digits has 10 classes, but the protocol says 7. Give `--set scale.classes=10`."


def test_what_was_asked_for_wrongly_is_misuse():
    file = f"./{write_setting()}"
    assert "there is no file" in call("check", "./none.py", code=2).output
    assert "Did you mean 'digits'?" in call("check", file, "--protocol", "digit", code=2).output
    assert "Did you mean 'epochs'?" in call("check", file, "--set", "recipe.epoch=3", code=2).output


@pytest.mark.slow
def test_the_last_line_says_whether_it_can_be_run():
    file = f"./{write_setting()}"
    before = sorted(Path().rglob("*"))
    shown = call("check", file, "--set", "recipe.epochs=2").output
    assert [path for path in sorted(Path().rglob("*")) if path not in before and "__pycache__" not in path.parts] == []
    assert shown.endswith(f"{file} can be run: ablate run {file} --set recipe.epochs=2 --report\n")
    shown = call("check", file, "--data-root", "my images", "--runs", "elsewhere").output
    assert shown.endswith(f"ablate run {file} --data-root 'my images' --runs elsewhere --report\n")
