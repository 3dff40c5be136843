"""What a training step of each network asks of a GPU: ``python -m tests.hostcupy.steps [NETWORK...]``.

Two images of 64 x 64 pixels, compact networks, the second step. "to device": copies and their kilobytes, the batch
among them; "peak": kilobytes that the step holds of CuPy's pool at once, beyond weights and the optimizer's state.
"""
import sys

from tests import hostcupy

COLUMNS = "network           launches  products  waits  to device      KB  to host  peak KB"


def count_step(name: str) -> hostcupy.Counts:
    """The counts of a network's second step."""
    from tests.models.test_device import step_of
    _, step = step_of(name, "cupy")
    step()
    with hostcupy.count() as counts:
        step()
    return counts


def line(name: str, c: hostcupy.Counts) -> str:
    return (f"{name:<17} {c.launches:>8}  {c.products:>8}  {c.waits:>5}  {c.to_device:>9} "
            f"{c.to_device_bytes / 1e3:>7.0f}  {c.to_host:>7} {c.peak / 1e3:>8.0f}")


if __name__ == "__main__":
    if hostcupy.missing():
        sys.exit(hostcupy.missing())
    hostcupy.start()
    from minicv import models
    print(COLUMNS, flush=True)
    for each in sys.argv[1:] or models.names():
        print(line(each, count_step(each)), flush=True)
