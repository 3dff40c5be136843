"""The digits that every operation keeps, from 1e-38 to 3e38: ``python -m tests.benchmarks.extremes [OP ...]``.

One line for each operation in float32 and in float16: the largest relative error of its result and of its gradients,
and at which argument. ``tests/extremes.py`` says what is compared with what. Exits 1 if a line exceeds 1e-5 (float32)
or two units in the last place (float16) without a reason.
"""
from __future__ import annotations

import sys

from tests.extremes import LIMITS, REASONS, TRIALS, measure


def table(ops: list[str], say=print) -> list[str]:
    """Print the lines; what exceeds its limit without a reason."""
    unexplained = []
    for op in ops:
        for dtype in LIMITS:
            line = measure(op, dtype)
            unexplained += line.unexplained()
            for way, (error, at) in (("forward", line.forward), ("gradient", line.gradient)):
                reason = REASONS.get((op, dtype, way), "") if error > LIMITS[dtype] else ""
                where = f"{at if error else 'exact'}{'; ' if reason else ''}{reason}"
                say(f"{op:<33}{dtype}  {way:<9}{error:8.1e}  {where}")
    return unexplained


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in TRIALS]
    if unknown:
        print(f"no trials of {', '.join(unknown)}; there are those of {', '.join(TRIALS)}", file=sys.stderr)
        return 2
    unexplained = table(arguments or list(TRIALS))
    print(f"\n{len(arguments or TRIALS)} operations; above {LIMITS['float32']:g} in float32 or {LIMITS['float16']:g} "
          f"in float16 without a reason: {len(unexplained)}")
    print(*unexplained, sep="\n")
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
