"""Whatever is wrong with a checkpoint drops it once, and says so; the trial then starts over."""

import time

import pytest
import torch

from lightning_modules.specs.errors import DamagedFileError
from studies.design.trial import Trial
from studies.training.callback import TrainingRecorder
from studies.training.checkpoints import verify_checksum
from studies.training.progress import TrialCallbacks, do_nothing
from studies.training.weights import load_final_weights
from tests.studies.training.test_train import run


class Stopped(BaseException):
    """Ends a trial after its first checkpoint."""


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(bytes(content))


DAMAGES = {
    "flip": lambda file: flip(file, 5_000),
    "flip in the checksum": lambda file: flip(file, -3),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:8000]),
    "no checksum": lambda file: file.write_bytes(file.read_bytes()[:-71]),
    "a list": lambda file: torch.save([1, 2, 3], file),
    "only a schema": lambda file: torch.save({"schema": 1}, file),
    "a state that fits nothing": lambda file: torch.save({"schema": 1, "state_dict": {"x": torch.ones(1)}}, file),
}


@pytest.fixture(scope="module")
def stopped(small, digits, tmp_path_factory):
    """A trial that left a checkpoint after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped")

    def stop(values):
        if values["epoch"] == 1:
            raise Stopped

    with pytest.raises(Stopped):
        run(Trial(arm="A", setup=small, seed=0), digits, folder, on_epoch=stop, checkpoint_seconds=0.0)
    assert verify_checksum(folder / "checkpoint.ckpt")
    return (folder / "checkpoint.ckpt").read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_dropped_once_and_the_trial_starts_over(damage, stopped, small, digits, tmp_path):
    folder = tmp_path / "stopped0"
    folder.mkdir()
    (folder / "checkpoint.ckpt").write_bytes(stopped)
    DAMAGES[damage](folder / "checkpoint.ckpt")
    messages = []
    result = run(Trial(arm="A", setup=small, seed=0), digits, folder, log=messages.append)
    assert result.status in ("finished", "at chance"), result.error
    (message,) = messages
    assert "checkpoint.ckpt cannot be used" in message
    assert "starts over" in message


def test_flipped_bits_of_weights_are_found_where_they_are_used(small, digits, tmp_path):
    trial = Trial(arm="A", setup=small, seed=0)
    run(trial, digits, tmp_path)
    assert load_final_weights(trial, tmp_path)
    flip(tmp_path / "weights.pt", 2_000)
    with pytest.raises(DamagedFileError, match=r"weights\.pt cannot be used: its checksum"):
        load_final_weights(trial, tmp_path)


@pytest.mark.parametrize(
    ("interval", "seconds_to_write", "seconds_since", "is_due"),
    [
        (15.0, 0.01, 14.0, False),
        (15.0, 0.01, 16.0, True),
        (15.0, 1.0, 49.0, False),  # a checkpoint takes at most 2 % of the time
        (15.0, 1.0, 51.0, True),
        (0.0, 1.0, 0.1, True),  # whoever wants one per epoch gets it, whatever it takes
    ],
)
def test_a_checkpoint_that_is_slow_to_write_comes_less_often(interval, seconds_to_write, seconds_since, is_due):
    recorder = TrainingRecorder.__new__(TrainingRecorder)
    recorder.callbacks = TrialCallbacks(
        on_epoch=do_nothing, log=do_nothing, heartbeat=do_nothing, checkpoint_seconds=interval
    )
    recorder.seconds_per_checkpoint = seconds_to_write
    recorder.saved_at = time.monotonic() - seconds_since
    assert recorder._is_checkpoint_due() == is_due
