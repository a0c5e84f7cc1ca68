"""Images with boxes: COCO, VOC, YOLO, plain folders and generated traffic."""

from sj_lowlat.data.augment import AugmentedDataset, train_transform
from sj_lowlat.data.batch import Batch, batches, collate
from sj_lowlat.data.coco import CocoDataset
from sj_lowlat.data.folder import ImageFolderDataset
from sj_lowlat.data.images import read_image
from sj_lowlat.data.inputs import PictureLike, each_picture, to_picture
from sj_lowlat.data.letterbox import Letterbox, letterbox
from sj_lowlat.data.part import Part, spaced
from sj_lowlat.data.sample import DetectionDataset, Sample, Target, ground_truth
from sj_lowlat.data.traffic import MovingSequence, TrafficDataset, moving_sequence
from sj_lowlat.data.voc import VocDataset
from sj_lowlat.data.yolo import YoloDataset

__all__ = [
    "AugmentedDataset",
    "Batch",
    "CocoDataset",
    "DetectionDataset",
    "ImageFolderDataset",
    "Letterbox",
    "MovingSequence",
    "Part",
    "PictureLike",
    "Sample",
    "Target",
    "TrafficDataset",
    "VocDataset",
    "YoloDataset",
    "batches",
    "collate",
    "each_picture",
    "ground_truth",
    "letterbox",
    "moving_sequence",
    "read_image",
    "spaced",
    "to_picture",
    "train_transform",
]
