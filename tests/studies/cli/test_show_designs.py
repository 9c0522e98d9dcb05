"""What ``ablate show`` tells of a generated design before anything runs."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from studies.cli.app import main

ROOT = Path(__file__).parents[3]
SHOW = json.loads((ROOT / "docs/commands.schema.json").read_text(encoding="utf-8"))["$defs"]["show"]


@pytest.mark.slow
def test_show_lists_each_component_with_what_it_alone_changes():
    shown = CliRunner().invoke(main, ["show", "vgg_additions"])
    assert shown.exit_code == 0, shown.output
    assert "design   Add one to VGG, 4 components:" in shown.output
    assert "1.  batch norm, from VGG to with batch norm: network.norm: none -> batch" in shown.output
    assert "claim    with batch norm improves on VGG in test error." in shown.output


@pytest.mark.slow
def test_show_has_the_steps_as_json():
    shown = CliRunner().invoke(main, ["show", "vgg_to_resnet", "--json"])
    design = json.loads(shown.stdout)["design"]
    jsonschema.validate(json.loads(shown.stdout), SHOW)
    assert (design["kind"], design["endpoint"]) == ("step-by-step", "test_error")
    assert [step["component"] for step in design["components"]][:2] == ["batch norm", "no dropout"]
    assert design["components"][1] == {
        "component": "no dropout",
        "over": "batch norm (step 1)",
        "arm": "no dropout (step 2)",
        "changes": ["network.head.dropout: 0.5 -> 0.0"],
    }
