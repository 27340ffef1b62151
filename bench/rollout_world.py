"""A thousand rollouts in the simulated world, under random faults: does anything that must hold, not hold?

`python -m bench.rollout_world [--rollouts 1000] [--seed 1]` draws lives (`tests/lives.py`) from
successive seeds until so many rollouts were begun, prints what became of them, and ends with 1 when
a promise was broken: then with the seed, and the shortest life found that breaks it too.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter

from tests import lives

RELEASES = 12
"""Of one life."""


def run(rollouts: int, seed: int) -> dict[str, int]:
    """Live until `rollouts` were begun; how they ended, and how many lives broke a promise.

    Every figure but `crashes` (controllers killed) and `violations` counts rollouts; `held` ones are
    also counted by their end.
    """
    logging.disable(logging.CRITICAL)
    ends: Counter[str] = Counter()
    begun = crashes = violations = 0
    while begun < rollouts:
        life = lives.draw(seed, RELEASES)
        try:
            played = lives.play(life)
        except Exception as error:
            violations += 1
            begun += RELEASES
            sys.stderr.write(
                f"seed {seed}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n"
            )
        else:
            ends += played.ends
            begun += played.rollouts
            crashes += played.crashes
        seed += 1
    words = ("settled", "rolled_back", "refused", "superseded", "held")
    return {"rollouts": begun, **{word: ends[word] for word in words}, "crashes": crashes, "violations": violations}


def shortest(seed: int) -> str:
    """What breaks in the life of a seed, and the shortest life that breaks too, one act a line."""
    life = lives.draw(seed, RELEASES)
    if not lives.fails(life):
        return f"seed {seed}: everything holds"
    less = lives.shrink(life)
    return "\n".join([f"seed {seed}: {lives.fails(less)}", *map(str, less.acts)])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shrink", action="store_true", help="show the shortest life of --seed that breaks a promise")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.shrink:
        sys.stdout.write(shortest(options.seed) + "\n")
        return 0
    figures = run(options.rollouts, options.seed)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
