"""Data sets, augmentation and weight maps, on plain NumPy arrays.

A data set has `len()`, `[i]` -> Sample, DetectionSample or PanopticSample, `num_classes` and `class_names`; a void
pixel's label is IGNORE. All randomness comes from an explicit `numpy.random.Generator` or seed.
"""

from minicv.data.augment.segmentation import SegmentationAugment
from minicv.data.augment.unet import (
    UNetAugment,
    Window,
    center_crop,
    elastic_displacement,
    mirror_pad,
    random_gray,
    random_rotation,
    random_shift,
    random_window,
    standardize,
    warp,
)
from minicv.data.class_weights import class_weights
from minicv.data.errors import DataError, DataWarning, NoSplit
from minicv.data.files.images import read_image, read_label, write_png
from minicv.data.generated.cells import Cells, draw_cells
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.data.generated.shape_images import ShapeImage, ShapeImages, draw_shape_image
from minicv.data.generated.street_scenes import StreetScenes, draw_street_scene
from minicv.data.readers.camvid import CamVid
from minicv.data.readers.cityscapes import Cityscapes
from minicv.data.readers.coco import CocoDetection
from minicv.data.readers.detection import boxes_of_masks
from minicv.data.readers.dsb2018 import DSB2018
from minicv.data.readers.folders import Shares
from minicv.data.readers.image_masks import ImageMasks
from minicv.data.readers.instances import Instances
from minicv.data.readers.isbi import ISBI2012
from minicv.data.readers.labelme import LabelMe
from minicv.data.readers.panoptic import CocoPanoptic, PanopticSample
from minicv.data.readers.voc_detection import VOCDetection
from minicv.data.readers.voc_segmentation import VOCSegmentation
from minicv.data.readers.yolo import YoloDetection
from minicv.data.registry import open_dataset
from minicv.data.sample import IGNORE, DetectionSample, Sample, Subset
from minicv.data.shrunken import Shrunken
from minicv.data.weight_map import WithWeightMap, balanced_class_weights, weight_map, weight_map_loop

__all__ = [
    "DSB2018", "IGNORE", "ISBI2012", "ShapeBoxes", "CamVid", "Cells", "Cityscapes", "CocoDetection", "CocoPanoptic",
    "DataError", "DataWarning", "DetectionSample", "ImageMasks", "Instances", "LabelMe", "NoSplit",
    "PanopticSample", "ShapeImage", "ShapeImages", "Sample", "Shares", "Shrunken", "Subset",
    "StreetScenes", "SegmentationAugment", "UNetAugment", "Window", "VOCDetection", "VOCSegmentation", "WithWeightMap",
    "YoloDetection",
    "balanced_class_weights", "boxes_of_masks", "center_crop", "class_weights", "draw_cells", "draw_shape_image",
    "draw_street_scene", "elastic_displacement", "mirror_pad", "open_dataset", "random_gray", "random_rotation",
    "random_shift", "random_window", "read_image", "read_label", "standardize", "warp", "weight_map", "weight_map_loop",
    "write_png",
]
