"""Data sets, augmentation and weight maps, on plain NumPy arrays.

A data set has `len()`, `[i]` -> Sample, DetectionSample or PanopticSample, `num_classes` and `class_names`; a void
pixel's label is IGNORE. All randomness comes from an explicit `numpy.random.Generator` or seed.
"""

from minicv.data.camvid import CamVid
from minicv.data.cells import Cells, draw_cells
from minicv.data.cityscapes import Cityscapes
from minicv.data.class_weights import class_weights
from minicv.data.coco import CocoDetection
from minicv.data.detection import DetectionSample, boxes_of_masks
from minicv.data.dsb2018 import DSB2018
from minicv.data.errors import DataError, DataWarning
from minicv.data.images import read_image, read_label, write_png
from minicv.data.isbi import ISBI2012
from minicv.data.joint import SegmentationAugment
from minicv.data.panoptic import CocoPanoptic, PanopticSample
from minicv.data.pictures import Picture, Pictures, draw_picture
from minicv.data.registry import open_dataset
from minicv.data.sample import IGNORE, Sample
from minicv.data.scenes import Scenes, draw_scene
from minicv.data.scenes_boxes import BoxScenes
from minicv.data.transforms import (
    UNetAugment,
    Window,
    centre,
    elastic_displacement,
    mirror_pad,
    random_grey,
    random_rotation,
    random_shift,
    random_window,
    standardise,
    warp,
)
from minicv.data.voc import VOCSegmentation
from minicv.data.voc_boxes import VOCDetection
from minicv.data.weight_map import WithWeightMap, balanced_class_weights, weight_map, weight_map_loop

__all__ = [
    "DSB2018",
    "IGNORE",
    "ISBI2012",
    "BoxScenes",
    "CamVid",
    "Cells",
    "Cityscapes",
    "CocoDetection",
    "CocoPanoptic",
    "DataError",
    "DataWarning",
    "DetectionSample",
    "PanopticSample",
    "Picture",
    "Pictures",
    "Sample",
    "Scenes",
    "SegmentationAugment",
    "UNetAugment",
    "Window",
    "VOCDetection",
    "VOCSegmentation",
    "WithWeightMap",
    "balanced_class_weights",
    "boxes_of_masks",
    "centre",
    "class_weights",
    "draw_cells",
    "draw_picture",
    "draw_scene",
    "elastic_displacement",
    "mirror_pad",
    "open_dataset",
    "random_grey",
    "random_rotation",
    "random_shift",
    "random_window",
    "read_image",
    "read_label",
    "standardise",
    "warp",
    "weight_map",
    "weight_map_loop",
    "write_png",
]
