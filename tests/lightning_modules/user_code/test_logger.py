"""The logger of a module that trains itself: numbers are kept by name, and what is none is reported once."""

import math

import pytest
import torch

from lightning_modules.user_code.logger import MAX_NAMES, RecordingLogger


@pytest.fixture
def lines():
    return []


@pytest.fixture
def logger(tmp_path, lines):
    return RecordingLogger(tmp_path / "trial", lines.append)


def test_the_last_number_of_each_name_is_kept_until_it_is_taken(logger):
    logger.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    logger.log_metrics({"loss": torch.tensor(1.0, requires_grad=True)}, step=2)
    assert logger.take_values() == {"loss": 1.0}
    assert logger.take_values() == {}


def test_the_writers_of_several_products_are_understood(logger):
    writer = logger.experiment
    writer.add_scalar("train/loss", 1, 7)
    writer.add_scalars("both", {"a": 2, "b": torch.tensor(3)}, 7)
    writer.log({"wandb": 4, "nested": {"deep": 5}}, step=7)
    writer.log_metric("run id", "mlflow", 6)
    writer.log_metric("comet", 7, 100)
    writer.log_metric(run_id="run id", key="named", value=8)
    writer.log_metrics({"many": 9})
    writer.add_hparams({"rate": 0.1}, {"hparams": 10})
    writer.flush()
    assert logger.take_values() == {
        "train/loss": 1, "both/a": 2, "both/b": 3, "wandb": 4, "nested/deep": 5, "mlflow": 6, "comet": 7, "named": 8,
        "many": 9, "hparams": 10,
    }  # fmt: skip


def test_housekeeping_is_silent(logger, lines):
    logger.experiment.flush()
    logger.experiment.close()
    assert not lines


def test_what_is_no_number_is_reported_once(logger, lines):
    for _ in range(2):
        logger.experiment.add_image("x", torch.zeros(3, 2, 2))
        logger.watch(None)
        logger.experiment.add_scalar("tensor", torch.zeros(3))
    assert logger.take_values() == {}
    assert [line.partition(": ")[2] for line in lines] == [
        "add_image is not recorded: only numbers are",
        "watch is not recorded: only numbers are",
        "'tensor', a Tensor, is not recorded: only numbers are",
    ]
    with pytest.raises(AttributeError, match=r"a study's logger has no 'config'; it records numbers, by add_scalar"):
        _ = logger.experiment.config


def test_names_are_made_valid_and_bounded(logger, lines):
    for name in ("a b/c", "../up", "loss (%)", "//x//", ""):
        logger.keep(name, 1)
    assert set(logger.take_values()) == {"a b/c", "up", "loss ___", "x", "_"}
    for number in range(2 * MAX_NAMES):
        logger.keep(f"step {number}", 1)
    assert len(logger.take_values()) == MAX_NAMES - 5
    assert lines == [
        f"the module's logger: further names are not recorded: a trial has {MAX_NAMES} logged curves at most"
    ]


def test_hyperparameters_are_kept_and_what_is_not_finite_is_no_number(logger):
    logger.log_hyperparams({"rate": 0.1, "optimizer": torch.optim.SGD})
    assert logger.hyperparameters == {"rate": 0.1, "optimizer": "<class 'torch.optim.sgd.SGD'>"}
    logger.keep("loss", float("inf"))
    (value,) = logger.take_values().values()
    assert math.isnan(value)


def test_files_of_the_module_belong_in_the_trials_folder(logger, tmp_path):
    assert logger.save_dir == logger.log_dir == str(tmp_path / "trial")
