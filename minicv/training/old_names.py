"""Old names in checkpoints of the format "minicv 1"; ``read_checkpoint`` replaces them by today's.

Every entry is old: new. "MODEL.NAME" renames for one model only. In "arrays", a name is one or several
whole parts of a dotted name: "rpn.offset" is a part of "rpn.offset.weight".
"""
from __future__ import annotations

from typing import Any

OLD_FORMAT = "minicv 1"

OLD_NAMES: dict[str, dict[str, str]] = {
    "metadata": {"recipe": "build_args"},  # of the file
    "info": {"recipe": "config"},  # what is saved with the model
    "models": {},
    "options": {  # arguments of the models' classes
        "trunk": "backbone", "stage": "cut_at", "trunk_options": "backbone_options",
        "googlenet.large": "branch3_kernel",
        **{f"fcn{stride}s.size": "backbone_preset" for stride in (8, 16, 32)},
        "short": "min_size", "long": "max_size", "search": "proposal_max_size",
        "foreground": "foreground_fraction", "background": "background_iou",
        "score": "score_threshold", "most": "max_detections", "scales": "anchor_scales", "ratios": "anchor_ratios",
        "border": "allowed_border", "before": "pre_nms_top_n", "after": "post_nms_top_n",
        "rpn_samples": "anchors_per_image", "mask_pooled": "mask_roi_size", "coord": "lambda_coord",
        "noobj": "lambda_noobj", "shuffle": "shuffle_objects", "near": "regression_iou",
        "distinct": "negative_nms_iou", "alternate": "multi_size_training", "sizes": "image_scales",
        "area": "target_area", "rcnn.side": "warp_size", "sppnet.frozen": "freeze_backbone",
        **{f"{model}.{old}": new for model in ("fast_rcnn", "faster_rcnn", "mask_rcnn", "sppnet") for old, new in (
            ("pooled", "roi_size"),
            ("pool", "roi_pooling"), ("min_size", "rpn_min_size"))},
        **{f"{model}.{old}": new for model in ("yolo", "fast_yolo") for old, new in (
            ("size", "image_size"), ("boxes", "boxes_per_cell"))}},
    "config": {},  # fields of the training's configuration
    "data": {"boxes": "shape-boxes", "pictures": "shapes", "scenes": "street-scenes"},
    "arrays": {  # weights and buffers
        "trunk.net": "backbone", "trunk": "backbone", "rpn.offset": "rpn.box_deltas",
        "head.offset": "head.box_deltas"},
}


def names_of(kind: str, model: str) -> dict[str, str]:
    """Return the entries of a kind, those for the model in place of those for all."""
    table, model = OLD_NAMES[kind], OLD_NAMES["models"].get(model, model)
    return table | {old.removeprefix(f"{model}."): new for old, new in table.items() if old.startswith(f"{model}.")}


def rename(kind: str, old: dict[str, Any], model: str = "") -> dict[str, Any]:
    """Return the dict with today's keys."""
    names = names_of(kind, model)
    return {names.get(key, key): value for key, value in old.items()}


def rename_options(old: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the options of a model, and those of its backbone within them, in today's names."""
    backbone = old.get("trunk", old.get("backbone", ""))
    return {key: rename("options", value, backbone) if isinstance(value, dict) else value
            for key, value in rename("options", old, model).items()}


def rename_arrays(state: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the arrays of a model under today's names."""
    renamed = {}
    for name, array in state.items():
        dotted = f".{name}."
        for old, new in names_of("arrays", model).items():
            dotted = dotted.replace(f".{old}.", f".{new}.")
        renamed[dotted[1:-1]] = array
    return renamed


def rename_all(args: dict[str, Any], info: dict[str, Any], state: dict[str, Any]) -> tuple[dict, dict, dict]:
    """Return what a checkpoint holds, see ``read_checkpoint``, in today's names."""
    model = OLD_NAMES["models"].get(args["model"], args["model"])
    args = {**args, "model": model, "options": rename_options(args["options"], model)}
    info = rename("info", info)
    if isinstance(info.get("config"), dict):
        info["config"] = rename("config", info["config"], model)
    if isinstance(info.get("data"), str):
        name, colon, path = info["data"].partition(":")
        info["data"] = OLD_NAMES["data"].get(name, name) + colon + path
    return args, info, rename_arrays(state, model)
