"""Maps to detections, image by image."""

from __future__ import annotations

import torch

from sj_lowlat.detect import HeadSpec, decode, detections_from_maps, nms

SPEC = HeadSpec(((16.0, 16.0),), 8, 2)


def test_finds_planted_objects() -> None:
    raw = torch.full((2, SPEC.channels, 4, 4), -10.0)
    raw[0, :4, 1, 2] = 0  # the cell's centre, the anchor's size
    raw[0, 4, 1, 2] = raw[0, 6, 1, 2] = 10.0
    first, second = detections_from_maps([raw], [SPEC])
    assert first.labels.tolist() == [1] and first.scores[0] > 0.99
    torch.testing.assert_close(first.boxes[0], torch.tensor([20.0 - 8, 12.0 - 8, 20.0 + 8, 12.0 + 8]))
    assert len(second) == 0


def test_is_decode_then_nms() -> None:
    raw = torch.randn(3, SPEC.channels, 5, 5, requires_grad=True)
    found = detections_from_maps([raw], [SPEC], score_threshold=0.1, iou_threshold=0.3, max_detections=7)
    boxes, scores = decode([raw], [SPEC])
    for n, detections in enumerate(found):
        expected = nms(boxes[n], scores[n], 0.1, 0.3, 7)
        assert torch.equal(detections.boxes, expected.boxes) and torch.equal(
            detections.labels, expected.labels
        )
        assert not detections.boxes.requires_grad and 0 < len(detections) <= 7
