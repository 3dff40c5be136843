"""Box arithmetic written a second time, in PyTorch, as the papers and torchvision's documentation define it."""
import torch


def iou(a, b):
    low = torch.max(a[:, None, :2], b[None, :, :2])
    high = torch.min(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)

    def area(boxes):
        return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)

    union = area(a)[:, None] + area(b)[None, :] - inter
    return torch.where(union > 0, inter / union.clamp(min=torch.finfo(union.dtype).tiny), torch.zeros_like(inter))


def nms(boxes, scores, threshold):
    order, keep = torch.sort(scores, descending=True, stable=True).indices, []
    overlap = iou(boxes, boxes)
    dead = torch.zeros(len(boxes), dtype=torch.bool)
    for i in order.tolist():
        if not dead[i]:
            keep.append(i)
            dead |= overlap[i] > threshold
    return torch.tensor(keep, dtype=torch.int64)


def encode(truth, proposals):
    p, g = ((b[..., 2:] - b[..., :2], (b[..., 2:] + b[..., :2]) / 2) for b in (proposals, truth))
    return torch.cat([(g[1] - p[1]) / p[0], torch.log(g[0] / p[0])], -1)


def decode(t, proposals):
    size, center = proposals[..., 2:] - proposals[..., :2], (proposals[..., 2:] + proposals[..., :2]) / 2
    middle, half = center + t[..., :2] * size, torch.exp(t[..., 2:]) * size / 2
    return torch.cat([middle - half, middle + half], -1)


def anchors(height, width, stride, scales, ratios):
    rows = []
    for i in range(height):
        for j in range(width):
            for ratio in ratios:
                for scale in scales:
                    w = (scale * scale / ratio) ** 0.5
                    x, y = (j + 0.5) * stride, (i + 0.5) * stride
                    rows.append([x - w / 2, y - w * ratio / 2, x + w / 2, y + w * ratio / 2])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def match_anchors(anchors, truth, high, low):
    labels = torch.full((len(anchors),), -1, dtype=torch.int64)
    if not len(truth):
        return labels.fill_(0), torch.zeros_like(labels)
    overlap = iou(anchors, truth)  # (R, G)
    best, matched = overlap.max(1)
    matched = torch.stack([(row == row.max()).nonzero()[0, 0] for row in overlap]) if len(anchors) else matched
    labels[best < low] = 0
    labels[best > high] = 1
    for g in range(len(truth)):
        column = overlap[:, g]
        if len(column) and column.max() > 0:
            labels[column == column.max()] = 1
    return labels, matched


def match_proposals(proposals, truth, foreground, low, high):
    overlap = iou(proposals, truth)
    best = overlap.max(1).values if len(truth) else torch.zeros(len(proposals), dtype=proposals.dtype)
    labels = torch.full((len(proposals),), -1, dtype=torch.int64)
    labels[(best >= low) & (best < high)] = 0
    labels[best >= foreground] = 1
    return labels
