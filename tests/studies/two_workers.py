"""One of several workers on the same trials, started bare: without Ray, by torch.distributed alone.

Its arguments: folder of the trials, rank, number of workers, and the setups by name, as JSON.
"""

import json
import os
import sys
from pathlib import Path

os.environ["GLOO_SOCKET_IFNAME"] = "lo"

from torch import distributed

from lightning_modules.data.inventory import load_dataset
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.serialization import from_json
from lightning_modules.specs.setup import SPEC_KINDS
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.training.train import train_trial

DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def main(folder: Path, rank: int, workers: int, setups: dict) -> None:
    """Train every setup under seed 0, each in a folder of its name."""
    meeting = f"file://{folder}/meeting-{workers}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    for name, data in setups.items():
        setup = from_json(data, SPEC_KINDS)
        examples = load_dataset(setup, Path("unused"), folder / f"cache-{rank}")
        fit = Trial(arm=name, setup=setup, seed=0)
        train_trial(
            fit,
            examples,
            folder / name,
            digests=DIGESTS,
            machine=Machine(),
            dp_rank=DataParallelRank.from_process_group(),
        )
    distributed.destroy_process_group()
    assert not {"ray", "mlflow"} & set(sys.modules)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
