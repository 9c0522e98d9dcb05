"""Rounds of faults, and the table of what they left. `make test-faults ROUNDS=20`."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ground import prepared
from tests.faults.judging import Outcome, try_fault
from tests.faults.kinds import FAULTS


def main() -> int:
    """Run rounds of all faults, or of some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--lanes", type=int, default=2, help="rounds at once")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/faults.*")
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}")
    asked = parser.parse_args()
    names = [name for name in FAULTS if name in (asked.faults or FAULTS)]
    tries = [(name, number) for number in range(asked.rounds) for name in names if not FAULTS[name].needs()]

    def told(task: tuple[str, int]) -> Outcome:
        outcome = try_fault(ground, *task, asked.seed)
        print(outcome, flush=True)
        return outcome

    with prepared() as ground, ThreadPoolExecutor(asked.lanes) as pool:
        print(f"{ground.training_seconds:.2f} s a trial, undisturbed; moments by seed {asked.seed}", flush=True)
        outcomes = list(pool.map(told, tries))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
