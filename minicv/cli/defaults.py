"""What ``minicv train`` does without options: a network's own numbers, its help that shows them, and the folder."""
from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from .. import models


class NetworkHelp(argparse.Action):
    """``minicv train unet --help`` shows that network's numbers and leaves out the options of other networks."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *rest: Any) -> None:
        if getattr(namespace, "model", None) is not None:
            show_defaults(parser, namespace.model)
        parser.print_help()
        parser.exit()


def show_defaults(parser: argparse.ArgumentParser, name: str) -> None:
    """Write a network's numbers, of both presets, into the help of the options, and hide those it refuses."""
    from .networks import commands_for
    commands, cls = commands_for(name), models.model_class(name)
    compact, paper = (commands.config_class(**cls.TRAIN_DEFAULTS[preset])  # type: ignore[attr-defined]
                      for preset in ("compact", "paper"))
    for action in parser._actions:
        if action.dest in commands.foreign_options("train_options"):
            action.help = argparse.SUPPRESS
        elif hasattr(compact, action.dest) and action.dest != "seed" and action.help:
            ours, theirs = (describe_value(getattr(config, action.dest), config, action.dest)
                            for config in (compact, paper))
            both = ours if ours == theirs else f"{ours}; with --preset paper: {theirs}"
            action.help = f"{re.sub(r' [(]default: [^)]*[)]$', '', action.help)} (default for {name}: {both})"


def describe_value(value: Any, config: Any, field: str) -> str:
    """Return a number of a configuration as one writes it on the command line."""
    if field == "momentum" and config.optimizer != "sgd":
        return "none, as the optimizer is adam"
    if field in ("milestones", "gamma") and config.schedule != "step":
        return "none"
    if value is None:
        return "whole images" if field == "tile" else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def default_folder(model: str, spec: str) -> Path:
    """Return the folder of a run on the data set of a spec.

    >>> default_folder("unet", "cells").as_posix(), default_folder("yolo", "yolo:data/cows,val=0.2").as_posix()
    ('runs/unet-cells', 'runs/yolo-cows')
    """
    from ..data.spec import parse_spec
    name, path, _ = parse_spec(spec)
    known = Path(path).name or Path(path).resolve().name if path else name
    return Path("runs") / f"{model}-{re.sub(r'[^A-Za-z0-9._-]+', '-', known) or 'run'}"
