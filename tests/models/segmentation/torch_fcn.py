"""FCN on VGG16 in plain PyTorch, with the numbers of the authors' published networks: the oracle for minicv's."""
from __future__ import annotations

BLOCKS = [2, 2, 3, 3, 3]
OFFSETS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}  # their crops: of score_pool4, score_pool3, and the upsampled scores


def torch_fcn(torch, x, weights, stride):
    """Scores of images x (N, 3, H, W); ``weights`` by minicv's names, without batch norm and dropout."""
    F = torch.nn.functional

    def conv(x, name, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def up(x, kernel, factor):
        return F.conv_transpose2d(x, kernel, stride=factor)

    def crop(x, offset, like):
        return x[:, :, offset:offset + like.shape[2], offset:offset + like.shape[3]]

    pools, h, layer = [], x, 0
    for convs in BLOCKS:
        for _ in range(convs):
            h = F.relu(conv(h, f"backbone.features.{layer}", padding=100 if layer == 0 else 1))
            layer += 2
        h = F.max_pool2d(h, 2, ceil_mode=True)
        pools.append(h)
        layer += 1
    h = F.relu(conv(h, "head.0"))
    h = F.relu(conv(h, "head.3"))
    h = conv(h, "score")
    *skips, last = OFFSETS[stride]
    for i, (offset, pool) in enumerate(zip(skips, (pools[3], pools[2]), strict=False)):
        h = up(h, weights[f"skips.{i}.up.weight"], 2)
        h = h + crop(conv(pool, f"skips.{i}.score"), offset, h)
    k = 2 * stride
    line = 1 - (torch.arange(k, dtype=x.dtype) - (k - 1) / 2).abs() / stride
    K = h.shape[1]
    kernel = torch.zeros(K, K, k, k, dtype=x.dtype)
    for c in range(K):
        kernel[c, c] = torch.outer(line, line)
    return crop(up(h, kernel, stride), last, x)
