"""Faster and Mask R-CNN's training losses a second time, in plain PyTorch, where every anchor and RoI is used.

Written from the papers: tap by tap as little as possible of minicv is called, and none of its model code.
"""
import torch
import torch.nn.functional as TF

from tests.detection import torch_boxes
from tests.ops.test_roi import torch_roi_align, torch_roi_pool


def backbone(x, w):
    """VGG11 with batch norm, up to relu3_2: the layers are numbered as in torchvision."""
    for conv in (0, 4, 8, 11):
        if conv in (4, 8):
            x = TF.max_pool2d(x, 2)
        name = f"backbone.features.{conv}"
        norm = f"backbone.features.{conv + 1}"
        x = TF.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)
        x = TF.batch_norm(x, None, None, w[f"{norm}.weight"], w[f"{norm}.bias"], training=True)
        x = TF.relu(x)
    return x


def rpn_losses(x, w, targets, scales, ratios, stride, samples):
    h = TF.relu(TF.conv2d(x, w["rpn.conv.weight"], w["rpn.conv.bias"], padding=1))
    score = TF.conv2d(h, w["rpn.score.weight"], w["rpn.score.bias"])
    offset = TF.conv2d(h, w["rpn.box_deltas.weight"], w["rpn.box_deltas.bias"])
    N, _, H, W = score.shape
    anchors = torch_boxes.anchors(H, W, stride, scales, ratios)
    k = len(scales) * len(ratios)
    entropy = distance = 0
    for n in range(N):
        truth = torch.from_numpy(targets[n].boxes).double()
        labels, matched = torch_boxes.match_anchors(anchors, truth, 0.7, 0.3)
        used = (labels >= 0).nonzero()[:, 0]
        i, j, a = used // (W * k), used // k % W, used % k
        pairs = torch.stack([score[n, 2 * a, i, j], score[n, 2 * a + 1, i, j]], 1)
        entropy = entropy + TF.cross_entropy(pairs, labels[used], reduction="sum")
        for r in (labels == 1).nonzero()[:, 0]:
            t = offset[n, 4 * (r % k):4 * (r % k) + 4, r // (W * k), r // k % W]
            wanted = torch_boxes.encode(truth[matched[r]], anchors[r])
            distance = distance + TF.smooth_l1_loss(t, wanted, beta=1 / 9, reduction="sum")
    return {"rpn_class": entropy / (N * samples), "rpn_box": 10 * distance / (N * H * W)}


def rows(boxes):
    """Boxes per image as (R, 5), the image's number first."""
    return torch.cat([torch.cat([torch.full((len(b), 1), float(n), dtype=torch.float64), b], 1)
                      for n, b in enumerate(boxes)])


def pooled(x, boxes, size, stride, pool):
    if pool == "pool":
        return torch_roi_pool(x, rows(boxes), (size, size), 1 / stride)
    return torch_roi_align(x, rows(boxes), (size, size), 1 / stride, 2, True)


def head_losses(x, w, targets, proposals, low, stride, size, pool, masks=None):
    """Over all proposals, the objects included, with an IoU of at least ``low`` with an object."""
    boxes, labels, wanted, objects = [], [], [], []
    for n, target in enumerate(targets):
        truth = torch.from_numpy(target.boxes).double()
        every = torch.cat([truth, proposals[n]])
        kind = torch_boxes.match_proposals(every, truth, 0.5, low if len(truth) else 0, 0.5)
        order = torch.cat([(kind == 1).nonzero()[:, 0], (kind == 0).nonzero()[:, 0]])
        count = int((kind == 1).sum())
        best = torch_boxes.iou(every[order], truth).argmax(1)[:count] if len(truth) else torch.zeros(0).long()
        boxes.append(every[order])
        u = torch.zeros(len(order), dtype=torch.int64)
        u[:count] = torch.from_numpy(target.labels)[best] + 1
        labels.append(u)
        wanted.append(torch_boxes.encode(truth[best], every[order[:count]]))
        objects.append((every[order[:count]], best))
    h = TF.relu(TF.linear(pooled(x, boxes, size, stride, pool).flatten(1), w["head.fc6.weight"], w["head.fc6.bias"]))
    h = TF.relu(TF.linear(h, w["head.fc7.weight"], w["head.fc7.bias"]))
    score = TF.linear(h, w["head.score.weight"], w["head.score.bias"])
    offset = TF.linear(h, w["head.box_deltas.weight"], w["head.box_deltas.bias"])
    u, v = torch.cat(labels), torch.cat(wanted) / torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=torch.float64)
    losses = {"class": TF.cross_entropy(score, u)}
    at = u.nonzero()[:, 0]
    mine = torch.stack([offset[r, 4 * (u[r] - 1):4 * u[r]] for r in at]) if len(at) else offset[:0, :4]
    losses["box"] = TF.smooth_l1_loss(mine, v, reduction="sum") / len(u)
    if masks:
        losses["mask"] = mask_loss(x, w, targets, objects, u[at] - 1, stride, pool, masks)
    return losses


def mask_loss(x, w, targets, objects, k, stride, pool, side):
    h, i = pooled(x, [b for b, _ in objects], side, stride, pool), 0
    while f"mask_head.convs.{i}.weight" in w:
        h = TF.relu(TF.conv2d(h, w[f"mask_head.convs.{i}.weight"], w[f"mask_head.convs.{i}.bias"], padding=1))
        i += 1
    h = TF.relu(TF.conv_transpose2d(h, w["mask_head.up.weight"], w["mask_head.up.bias"], stride=2))
    m = TF.conv2d(h, w["mask_head.mask.weight"], w["mask_head.mask.bias"])
    truth = []
    for target, (boxes, best) in zip(targets, objects, strict=True):
        for box, g in zip(boxes, best, strict=True):
            whole = torch.from_numpy(target.masks[g]).double()[None, None]
            truth.append(torch_roi_align(whole, rows([box[None]]), (2 * side, 2 * side), 1, 2, True)[0, 0] > 0.5)
    mine = torch.stack([m[r, k[r]] for r in range(len(k))])
    return TF.binary_cross_entropy_with_logits(mine, torch.stack(truth).double())
