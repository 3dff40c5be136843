"""Measure networks on street scenes: ``python -m tests.benchmarks.streets camvid:FOLDER RUN [RUN ...]``.

RUN is a folder that ``minicv train`` wrote. Prints the tables of docs/results.md, measured on the split test. With
--figure FILE.png it draws the predictions on some images; the images themselves belong to others and are not drawn.
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from minicv.data import open_dataset
from minicv.files import atomic_write
from minicv.training import load_checkpoint
from minicv.training.evaluate import evaluate_segmentation
from minicv.training.run import read_metrics
from minicv.viz import segmentation_sheet

from .report import table

SHOWN = (20, 110, 190)  # of the split, chosen by number


def measure(run: Path, dataset: Any) -> tuple[dict[str, float], list]:
    """Return the numbers of a run, and its predicted labels of the images SHOWN."""
    model, info = load_checkpoint(run / "last.safetensors")
    model.eval()
    found = evaluate_segmentation(model, dataset)
    start = time.perf_counter()
    labels = [model.predict([dataset[i % len(dataset)].image])[0].labels for i in SHOWN]
    found["ms"] = 1000 * (time.perf_counter() - start) / len(SHOWN)
    found["parameters"] = sum(p.size for p in model.parameters())
    found["steps"], found["minutes"] = info["step"], read_metrics(run / "metrics.jsonl")[-1]["seconds"] / 60
    return found, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    dataset, numbers, label_maps = open_dataset(args.data, "test"), {}, {}
    for run in args.runs:
        numbers[run.name], labels = measure(run, dataset)
        label_maps[f"{run.name}, mIoU {numbers[run.name]['mean_iu']:.3f}"] = labels
    head = ["run", "parameters", "steps", "minutes", "mIoU", "pixel accuracy", "boundary F", "ms per image"]
    print("\n".join(table(head, [
        [name, f"{n['parameters']:,}", n["steps"], f"{n['minutes']:.1f}", *(f"{n[key]:.3f}" for key in (
            "mean_iu", "pixel_accuracy", "boundary_f_score")), f"{n['ms']:.0f}"] for name, n in numbers.items()])))
    print("\n".join(table(["IoU", *dataset.class_names], [
        [name, *(f"{n.get(f'iu {c}', float('nan')):.2f}" for c in dataset.class_names)]
        for name, n in numbers.items()])))
    if args.figure:
        figure = segmentation_sheet([dataset[i % len(dataset)].image for i in SHOWN], label_maps, dataset.class_names,
                                  with_images=False)
        with atomic_write(args.figure) as temporary:
            figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
