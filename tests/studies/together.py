"""One of several workers on the same trials, started bare: without Ray, by torch.distributed alone.

Its arguments: folder of the trials, rank, number of workers, and the setups by name, as JSON.
"""

import json
import os
import sys
from pathlib import Path

os.environ["GLOO_SOCKET_IFNAME"] = "lo"

from torch import distributed

from lightning_modules.reading import examples_of
from lightning_modules.sharing import Share
from lightning_modules.spec import SPEC_KINDS
from lightning_modules.values import from_json
from studies.fits import Fit
from studies.training import Machine, train

DIGESTS = {"data": "d", "code": "c", "platform": "p"}


def main(folder: Path, rank: int, workers: int, setups: dict) -> None:
    """Train every setup under seed 0, each in a folder of its name."""
    meeting = f"file://{folder}/meeting-{workers}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    for name, data in setups.items():
        setup = from_json(data, SPEC_KINDS)
        examples = examples_of(setup, Path("unused"), folder / f"cache-{rank}")
        fit = Fit(arm=name, setup=setup, seed=0)
        train(fit, examples, folder / name, digests=DIGESTS, machine=Machine(), share=Share.of_process())
    distributed.destroy_process_group()
    assert not {"ray", "mlflow"} & set(sys.modules)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
