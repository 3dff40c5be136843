"""``curl`` for the tests of the guides: ``python -m tests.pretend_download -LO URL`` writes random weights as the file.

The file has the name and the arrays of torchvision's file at that URL, and what PyTorch saves in it.
"""
import sys
from pathlib import Path

import minicv
from minicv import models
from minicv.training import export_weights


def download(url: str, folder: Path) -> Path:
    """Write the file of a classifier of ImageNet's 1000 classes; its name is up to the first hyphen of the file's."""
    where, _, name = url.rpartition("/")
    assert where == "https://download.pytorch.org/models", url
    minicv.seed(0)
    export_weights(folder / name, models.build(name.split("-")[0], "paper"), "torch")
    return folder / name


if __name__ == "__main__":
    option, url = sys.argv[1:]
    assert option == "-LO"
    download(url, Path.cwd())
