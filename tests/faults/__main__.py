"""Rounds of faults, and the table of what they left. `make test-faults ROUNDS=20`."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ground import prepared
from tests.faults.judging import Outcome, try_fault
from tests.faults.kinds import FAULTS
from tests.faults.table import about, as_markdown, write


def main() -> int:
    """Run rounds of all faults, or of some."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="ROUND", help="where to begin: to try one again")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--lanes", type=int, default=2, help="rounds at once")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/faults.*")
    parser.add_argument("--show", action="store_true", help="print what the commands printed, also where all is well")
    parser.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}")
    asked = parser.parse_args()
    unknown = set(asked.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no fault {', '.join(sorted(unknown))}; there are: {', '.join(FAULTS)}")
    named = [name for name in FAULTS if name in (asked.faults or FAULTS)]
    absent = {name: FAULTS[name].needs() for name in named if FAULTS[name].needs()}
    rounds = range(asked.first, asked.first + asked.rounds)
    tries = [(name, number) for number in rounds for name in named if name not in absent]
    known = about(asked.rounds, asked.seed)
    outcomes: list[Outcome] = []

    def told(task: tuple[str, int]) -> Outcome:
        outcome = try_fault(ground, *task, asked.seed)
        outcomes.append(outcome)
        if asked.write:
            write(sorted(outcomes, key=lambda each: tries.index((each.fault, each.round))), known)
        shown = outcome.shown if asked.show or not outcome.is_good else []
        print("\n".join((str(outcome), *shown)), flush=True)
        return outcome

    with prepared() as ground, ThreadPoolExecutor(asked.lanes) as pool:
        print(f"{ground.training_seconds:.2f} s a trial, undisturbed; moments by seed {asked.seed}", flush=True)
        try:
            list(pool.map(told, tries))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    outcomes.sort(key=lambda each: tries.index((each.fault, each.round)))
    print(as_markdown(outcomes, known))
    for name, reason in absent.items():
        print(f"{name}: not tried, for {reason}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
