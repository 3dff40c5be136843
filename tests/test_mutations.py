"""A test of the tests: break an operation on purpose, and the cases must notice, on the storey that was broken.

Each mutation changes one place in one file of ``minicv/ops`` or ``minicv/fast``. Then the family's cases go through the
checks of ``tests/ops/test_cases.py`` on both storeys: against the loops, against finite differences, and at ties
against the gradients that the case gives. A mutation that nothing notices is a hole in the cases. One that is noticed
on the other storey would be blamed on the wrong file.
"""
import sys
from pathlib import Path

import pytest

import minicv
from minicv import Tensor
from minicv.autograd import function
from minicv.fast import FAST
from tests import harness

FOLDER = Path(minicv.__file__).parent

SHIFTED, WINOGRAD, DEPTHWISE, PATCHES = (f"fast/convolution/{name}"
                                         for name in ("shifted", "winograd", "depthwise", "patches"))

POOLING, RESIZE, ROI = "fast/pooling", "fast/resize", "fast/roi"

# (family whose cases must notice, file to change: of ops, or "fast/..."; what is there, what to put there instead)
MUTATIONS = {
    "a lost sign in subtraction": ("elementwise", "elementwise", "unbroadcast(-gy, ctx.shapes[1])",
                                   "unbroadcast(gy, ctx.shapes[1])"),
    "a lost sign in division": ("elementwise", "elementwise", "-gy * y / b", "gy * y / b"),
    "the product's gradients swapped": ("elementwise", "elementwise", "unbroadcast(gy * b, a.shape)",
                                        "unbroadcast(gy * a, a.shape)"),
    "broadcasting undone by a mean": ("elementwise", "elementwise", "return total(g, repeated)",
                                      "return g.mean(axis=repeated)"),
    "the first of two that tie takes everything": ("selection", "selection", "ctx.save(a < b, b < a, a == b,",
                                                   "ctx.save(a < b, b <= a, a != a,"),
    "the first of two minima that tie takes everything": ("selection", "selection", "ctx.save(b < a, a < b, a == b,",
                                                          "ctx.save(b < a, a <= b, a != a,"),
    "minimum: the larger takes the gradient": ("selection", "selection", "ctx.save(b < a, a < b,",
                                               "ctx.save(a < b, b < a,"),
    "|x| with a slope at 0": ("elementwise", "elementwise", "ctx.save(xp.copysign(1, x), y > 0)",
                          "ctx.save(xp.copysign(1, x), y >= 0)"),
    "clamp without its borders": ("selection", "selection", "inside = x == y", "inside = (x > lo) & (x < hi)"),
    "clamp: a bound in the wrong order keeps its gradient": ("selection", "selection", "(x < lo) & (lo < hi)",
                                                             "x < lo"),
    "clamp: an upper bound beats x alone": ("selection", "selection", "(x > hi) | (hi < lo)", "x > hi"),
    "clamp: a bound in place of x": ("selection", "selection", "masks = (inside, lambda: (x < lo) & (lo < hi)",
                                     "masks = (lambda: (x < lo) & (lo < hi), inside"),
    "both sides of where swapped": ("selection", "selection", "keep(gy, condition)", "keep(gy, ~condition)"),
    "a square root's rule without its 2": ("elementwise", "elementwise", "gy / (2 * ctx.saved[0])",
                                           "gy / ctx.saved[0]"),
    "a tie gives both the whole gradient": ("selection", "selection", "gy / (1 + tie.view(np.uint8))", "gy"),
    "a power's rule forgets the factor": ("elementwise", "elementwise", "ctx.p * x ** (ctx.p - 1)", "x ** (ctx.p - 1)"),
    "the logarithm's rule upside down": ("elementwise", "elementwise", "return gy / ctx.saved[0]",
                                         "return gy * ctx.saved[0]"),
    "leaky ReLU leaks only forward": ("activation", "activation", "where(x > 0, gy, gy * ctx.slope)",
                                      "where(x > 0, gy, gy * 0)"),
    "leaky ReLU passes all at 0": ("activation", "activation", "where(x > 0, gy,", "where(x >= 0, gy,"),
    "ReLU passes at 0": ("activation", "activation", "xp.not_equal(y, 0,", "xp.greater_equal(y, 0,"),
    "tanh's rule without its square": ("activation", "activation", "gx *= gx", "pass"),
    "ReLU passes at negative inputs": ("activation", "activation", "xp.not_equal(y, 0, out=positive)",
                                       "xp.greater(x, -1, out=positive)"),
    "sigmoid's derivative without 1 - y": ("activation", "activation", "slope *= y  #", "pass  #"),
    "the first of maxima that tie takes everything": ("reduce", "reduce", "ctx.save((x == y) | (x != x))",
                                                      "ctx.save((x == y) & ((x == y).cumsum(axis=over[0]) == 1))"),
    "a mean of one number too many": ("reduce", "reduce", "math.prod(x.shape[i] for i in over)",
                                      "1 + math.prod(x.shape[i] for i in over)"),
    "maxima that tie each take everything": ("reduce", "reduce", "keep(gy / winners.sum(",
                                             "keep(gy / (winners * 0 + 1).max("),
    "= for += where an element is taken twice": ("shape", "shape", "add_at(gx, ctx.index, gy.astype(gx.dtype))",
                                                     "gx[ctx.index] = gy"),
    "a flip not undone": ("shape", "shape", "return xp_of(gy).flip(gy, ctx.dims)", "return gy"),
    "the odd pixel cut off at the top": ("shape", "shape", "(H - height) // 2", "(H - height + 1) // 2"),
    "a permutation undone in shape only": ("shape", "shape", "gy.transpose(ctx.inverse)",
                                           "gy.reshape([gy.shape[i] for i in ctx.inverse])"),
    "joined parts returned in the wrong place": ("shape", "shape", "slice(end - n, end)", "slice(0, n)"),
    "mirroring repeats the edge": ("pad", "pad", "list(range(before, 0, -1))", "list(range(before - 1, -1, -1))"),
    "mirroring repeats the edge at the other end": ("pad", "pad", "range(n - 2, n - 2 - after, -1)",
                                                    "range(n - 1, n - 1 - after, -1)"),
    "the last row but one repeated": ("pad", "pad", "[n - 1] * after", "[n - 2] * after"),
    "padding with another number": ("pad", "pad", "constant_values=value", "constant_values=-value"),
    "the gradient of mirrored rows lost": ("pad", "pad", "rows = [*enumerate(first), *enumerate(last, before + n)]",
                                           "rows = [*enumerate(first)]"),
    "= for += where mirrored rows meet": ("pad", "pad", "gy[along(axis, source)] += g", "gy[along(axis, source)] = g"),
    "a product's gradient without signs": ("linear", "linear", "product(a.swapaxes(-1, -2), gy)",
                                            "product(a.swapaxes(-1, -2), abs(gy))"),
    "the bias of the wrong sign": ("linear", "linear", "gb = sum_rows(gy)",
                                   "gb = -sum_rows(gy)"),
    "= for += over kernel rows": ("conv", SHIFTED, "total += product", "total[...] = product"),
    "a lost overlap at the border": ("conv", SHIFTED, "low = min(max(0, -(first // step)), count)",
                                     "low = min(max(0, 1 - (first // step)), count)"),
    "padding on the wrong side": ("conv", "conv", "slice(offset[0], offset[0] + H), slice(offset[1], offset[1] + W)",
                                  "slice(0, H), slice(0, W)"),
    "the sum over taps keeps the last": ("conv", "conv", "y += w[..., i, j] @ x[at]", "y = w[..., i, j] @ x[at]"),
    "= for += where windows overlap, in the input's gradient": ("conv", "conv", "gx[at] += (w", "gx[at] = (w"),
    "= for += where stamps overlap": ("conv", "conv", "y[at] += (w", "y[at] = (w"),
    "a stamp's weight not turned for the gradient": ("conv", "conv", "gx += w[..., i, j] @ stamped",
                                                     "gx += w[..., -1 - i, -1 - j] @ stamped"),
    "dilation ignored by the taps": ("conv", "conv", "slice(d * t, d * t + s * (o - 1) + 1, s)",
                                     "slice(t, t + s * (o - 1) + 1, s)"),
    "the gradient of one group's weight from one picture": ("conv", "conv", "(g @ pixels.swapaxes(-1, -2)).sum(axis=0)",
                                                            "(g @ pixels.swapaxes(-1, -2))[:1].sum(axis=0)"),
    "the kernel not turned around in the adjoint": ("conv", SHIFTED, "if (a + top - d * i) % s == 0][::-1]",
                                                    "if (a + top - d * i) % s == 0]"),
    "the adjoint's channels in reverse": ("conv", SHIFTED, "w.swapaxes(2, 3)", "w.swapaxes(2, 3)[:, :, ::-1]"),
    "the weight's gradient from the first phase only": ("conv", SHIFTED, "products.sum(axis=(0, 1))",
                                                        "products[0].sum(axis=0)"),
    "the input's gradient for one remainder only": ("conv", SHIFTED, "for a in range(min(s, size)):",
                                                    "for a in range(min(1, size)):"),
    "depthwise filters mixed up": ("conv", "fast/convolution/__init__", "slice(None), w.transpose(2, 3, 1, 0)",
                                   "slice(None), w.transpose(2, 3, 1, 0)[::-1]"),
    "depthwise columns not summed": ("conv", DEPTHWISE, "OW, O).sum(axis=2)", "OW, O)[:, :, 0]"),
    "= for += where a stride deals depthwise columns out": ("conv", DEPTHWISE, "part if y is None else y + part",
                                                            "part"),
    "pixels that no window meets are left as they are": ("conv", PATCHES, "left_over[...] = 0 if bias is None else",
                                                         "left_over[...] = 7 if bias is None else"),
    "the rows beyond the last whole piece are lost": ("conv", PATCHES, "part += rows[whole:].T @ g[whole:]", "pass"),
    "the bias of the last group for all": ("conv", "fast/convolution/__init__", "None if b is None else b[O]",
                                           "None if b is None else b[-(O.stop - O.start):]"),
    "the last of equal maxima takes the gradient": ("max_pool", POOLING, "better = value > best",
                                                    "better = value >= best"),
    "max pooling: taps numbered column by column": ("max_pool", POOLING, "numbers = np.arange(KH * KW, dtype="
                                                   "np.min_scalar_type(KH * KW - 1)).reshape(KH, KW)",
                                                   "numbers = np.arange(KH * KW, dtype=np.min_scalar_type(KH * KW - 1))"
                                                   ".reshape(KW, KH).T"),
    "max pooling: taps side by side in spite of dilation": ("max_pool", POOLING, "(dh * W * C, dw * C)",
                                                            "(W * C, C)"),
    "max pooling: the gradient beside its place, padding forgotten": ("max_pool", POOLING,
                                                                      "((n.start * H + sh * begin - ph) * W - pw) * C",
                                                                      "(n.start * H + sh * begin - ph) * W * C"),
    "ceil_mode does nothing": ("max_pool", "windows", "if not ceil_mode:", "if True:"),
    "ceil_mode drops a window that starts in the last pixel": ("max_pool", "windows", ">= i + padding else o",
                                                               ">= i else o"),
    "ceil_mode drops every window that ends outside": ("max_pool", "windows", "return o - 1 if (o - 1) * stride",
                                                       "return max(1, o - 1) if o * stride"),
    "max padding of zero": ("max_pool", POOLING, "best[at(w, w + 1)] = x[at(pixel, pixel + 1)]",
                            "best[at(w, w + 1)] = xp.maximum(x[at(pixel, pixel + 1)], 0)"),
    "= for += where maxima of windows coincide": ("max_pool", POOLING, "add_at(gx.reshape(-1), place.reshape(-1), "
                                                  "nhwc_view(gy)[n, begin:end].reshape(-1))",
                                                  "gx.reshape(-1)[place.reshape(-1)] = "
                                                  "nhwc_view(gy)[n, begin:end].reshape(-1)"),
    "= for += where averages overlap": ("avg_pool", POOLING, "x[(*before, pixels)] += y[(*before, windows)]",
                                        "x[(*before, pixels)] = y[(*before, windows)]"),
    "padding counts although it should not": ("avg_pool", "avg_pool", "(0, i)\n", "(-p, i + p)\n"),
    "an average spread without its divisor": ("avg_pool", POOLING, "g = nhwc_view(gy)[block[0]] / ctx.divisor",
                                              "g = nhwc_view(gy)[block[0]]"),
    "adaptive bins end too early": ("adaptive_pool", "adaptive_pool", "-(-(a + 1) * i // o))", "(a + 1) * i // o)"),
    "adaptive bins begin too late": ("adaptive_pool", "adaptive_pool", "[(a * i // o, ", "[(-(-a * i // o), "),
    "adaptive mean: = for += where bins share rows": ("adaptive_pool", POOLING, "gx[n, h:h_end] += row[:, None]",
                                                      "gx[n, h:h_end] = row[:, None]"),
    "adaptive mean: = for += where bins share columns": ("adaptive_pool", POOLING, "row[:, w:w_end] += nhwc_view",
                                                         "row[:, w:w_end] = nhwc_view"),
    "adaptive mean: all bins divided as the first": ("adaptive_pool", POOLING,
                                                     "sum_rows(row[:, w:w_end]), 1 / ((h_end - h) * (w_end - w))",
                                                     "sum_rows(row[:, w:w_end]), 1 / np.prod([b[0][1] for b in "
                                                     "ctx.bins])"),
    "adaptive maximum: the last of equals": ("adaptive_pool", POOLING, "better = value > best",
                                             "better = value >= best"),
    "plain max pooling: the last of equals": ("max_pool", "max_pool", "(x[at] > y)", "(x[at] >= y)"),
    "plain max pooling: the padding may win": ("max_pool", "max_pool", "better &= place[at] >= 0", "pass"),
    "plain max pooling: dilation ignored": ("max_pool", "max_pool", "slice(dw * j, dw * j + sw", "slice(j, j + sw"),
    "plain max pooling: = for += where maxima coincide": ("max_pool", "max_pool", "add_at(gx, (plane + arg).ravel(), "
                                                          "gy.ravel())", "gx[(plane + arg).ravel()] = gy.ravel()"),
    "plain average: = for += where windows overlap": ("avg_pool", "avg_pool", "gx[at] += gy", "gx[at] = gy"),
    "plain average: the gradient undivided": ("avg_pool", "avg_pool", "+= gy / ctx.divisor", "+= gy"),
    "plain average: the padding not cut off": ("avg_pool", "avg_pool", "slice(padding[0], padding[0] + H)",
                                               "slice(0, H)"),
    "plain adaptive mean: = for += where bins share": ("adaptive_pool", "adaptive_pool", "left:right] += share",
                                                       "left:right] = share"),
    "plain adaptive mean: not the mean": ("adaptive_pool", "adaptive_pool",
                                          "left:right] / ((bottom - top) * (right - left)), (2, 3)",
                                          "left:right] / (bottom * right), (2, 3)"),
    "plain adaptive maximum: rows of the bin too wide": ("adaptive_pool", "adaptive_pool", "t // (right - left)",
                                                         "t // (bottom - top)"),
    "plain adaptive maximum: = for += where bins share it": ("adaptive_pool", "adaptive_pool",
                                                             "add_at(gx, (plane + arg).ravel(), gy.ravel())",
                                                             "gx[(plane + arg).ravel()] = gy.ravel()"),
    "a pyramid from its top": ("adaptive_pool", "adaptive_pool", "for n in levels], 1)", "for n in levels[::-1]], 1)"),
    "a pyramid with the channels last": ("adaptive_pool", "adaptive_pool", "flatten(pool(input, n), 1)",
                                         "flatten(pool(input, n).permute(0, 2, 3, 1), 1)"),
    "softmax with a backward of zeros": ("softmax", "softmax", "gp *= p", "gp *= 0"),
    "log-softmax without its sum": ("softmax", "softmax", "p *= gy.sum(axis=0) - gy", "p *= 1 - gy"),
    "the true class gets its gradient only": ("loss", "loss", "= -ga * not_t", "= -ga"),
    "the true class gets the others' gradient only": ("loss", "loss", "gz.ravel()[at] = -ga * not_t", "pass"),
    "the true class left out of the sum": ("loss", "loss", "sums = others + e_t", "sums = others"),
    "the true class left out of the logarithm": ("loss", "loss", "others + (e_t - 1)", "others"),
    "smoothing's pull at the true class lost": ("loss", "loss", "p.ravel()[at] = e_t / (others + e_t)", "pass"),
    "the largest score counted twice": ("softmax", "softmax", "keepdims=keepdims) - 1", "keepdims=keepdims)"),
    "the ignored label counts": ("loss", "loss", "counts = t != ignore_index\n            t *= counts",
                                 "counts = t >= -1000\n            t *= t != ignore_index"),
    "smoothing keeps all of the true class, forward": ("loss", "loss", "e = (1 - s) * e + s / K * of_all",
                                                       "e = e + s / K * of_all"),
    "smoothing keeps all of the true class, backward": ("loss", "loss", "weigh(g, a[span]) * (1 - s)",
                                                        "weigh(g, a[span])"),
    "smoothing over the other classes only": ("loss", "loss", "s / K * of_all", "s / max(K - 1, 1) * of_all"),
    "smoothing forgets the class weights": ("loss", "loss", "else weigh(ug, weight[:, None])",
                                            "else ug"),
    "smoothing pulls at ignored pixels": ("loss", "loss", "ug = weigh(g, u) * (s / K)",
                                          "ug = g + 0 * u * (s / K)"),
    "pixel weights forgotten": ("loss", "loss", "v[span] * counts", "counts * 1.0"),
    "the mean over all pixels, ignored or not": ("loss", "loss", "total = a.sum()\n", "total = a.size\n"),
    "log-probabilities: the ignored label counts": ("loss", "loss", "weight.take(t) * counts", "weight.take(t)"),
    "class probabilities: the gradient of the scores unsmoothed": ("loss", "loss", "w * ((1 - s) * t + s / K)",
                                                                   "w * t"),
    "class probabilities: not weighed by pixel": ("loss", "loss", "wq).sum(axis=axis), v), total",
                                                  "wq).sum(axis=axis), v != 0), total"),
    "class probabilities: the target's gradient without its share": ("loss", "loss", "(ctx.s - 1) * w * g", "-w * g"),
    "class probabilities: p for all classes alike": ("loss", "loss", "xp.exp(log_p) * others", "others"),
    "class probabilities: a class pulls as if it were certain": ("loss", "loss", "+ wq * xp.expm1(log_p)", "- wq"),
    "log-probabilities: a lost sign": ("loss", "loss", "= -weigh(each(gy", "= weigh(each(gy"),
    "class weights forgotten in the mean": ("loss", "loss", "a[span] = u * w_t", "a[span] = u"),
    "evaluation's gradient as in training": ("norm", "norm", "if ctx.needs[0] and ctx.training:",
                                             "if ctx.needs[0]:"),
    "evaluation adds the mean": ("norm", "norm", "[a, b - rough * a]", "[a, b + rough * a]"),
    "the running variance is the biased one": ("norm", "norm", "(var * (P / (P - 1)) - running_var)",
                                               "(var - running_var)"),
    "the running mean keeps the share momentum": ("norm", "norm", "momentum * (mean - running_mean)",
                                                  "(1 - momentum) * (mean - running_mean)"),
    "the scale's gradient without 1 / sqrt(var)": ("norm", "norm", "(gd - shift * gb) * inv ", "(gd - shift * gb) "),
    "batch norm's mean a constant": ("norm", "norm", "(every_gb / max(P, 1) + minus_k * shift)",
                                      "(minus_k * shift)"),
    "batch norm's rough mean taken for the mean": ("norm", "norm", "[a, b - shift * a]", "[a, b]"),
    "batch norm's rough mean taken for the mean, backward": ("norm", "norm", "+ minus_k * shift)", ")"),
    "batch norm's variance around the rough mean": ("norm", "norm", "square - shift * shift", "square"),
    "the scale's gradient around the rough mean": ("norm", "norm", "(gd - shift * gb)", "gd"),
    "the mean not taken off where it is far from 0": ("norm", "norm", "channelwise(centre, [rows, y], [rough])",
                                                      "channelwise(centre, [rows, y], [0 * rough])"),
    "batch norm's variance a constant": ("norm", "norm", "-inv * every_gw / max(P, 1)", "0 * gw"),
    "the unbiased variance normalises": ("norm", "norm", "inv = 1 / xp.sqrt(var + eps)",
                                         "inv = 1 / xp.sqrt(var * (P / max(P - 1, 1)) + eps)"),
    "local response norm one channel off": ("norm", "norm", "(a * a, size // 2, (size - 1) // 2)",
                                           "(a * a, size // 2, size // 2 - 1)"),
    "local response norm: alpha not divided by the size": ("norm", "norm", "k + alpha / size", "k + alpha"),
    "local response norm: the windows not transposed": ("norm", "norm", "a / d, (size - 1) // 2, size // 2)",
                                                        "a / d, size // 2, (size - 1) // 2)"),
    "local response norm: a square's 2 lost": ("norm", "norm", "direct - 2 * beta *", "direct - beta *"),
    "local response norm: neighbours only forward": ("norm", "norm", "direct - 2 * beta * ctx.alpha / size * a * "
                                                     "of_windows", "direct"),
    "dropout's scale lost backward": ("dropout", "dropout", "return _kept(gy, *ctx.saved)",
                                      "return _kept(gy, ctx.saved[0], 1.0)"),
    "interpolation's gradient twice": ("interpolate", RESIZE, "return resample(rows.T, gy, columns.T)\n\n\nclass",
                                       "return 2 * resample(rows.T, gy, columns.T)\n\n\nclass"),
    "plain interpolation's gradient twice": ("interpolate", "interpolate", "return weighted_rows(rows.T,",
                                             "return 2 * weighted_rows(rows.T,"),
    "plain interpolation: the last weight stands alone": ("interpolate", "interpolate", "y[:, :, a] += float",
                                                          "y[:, :, a] = float"),
    "plain interpolation: the other axis backward": ("interpolate", "interpolate",
                                                     "weighted_rows(columns.T, gy.swapaxes(2, 3)).swapaxes(2, 3)",
                                                     "weighted_rows(columns.T[:, ::-1], gy.swapaxes(2, 3))"
                                                     ".swapaxes(2, 3)"),
    "plain nearest: the last that chose a pixel alone": ("interpolate", "interpolate",
                                                         "add_at(gx, (slice(None), slice(None), *ctx.saved), gy)",
                                                         "gx[:, :, *ctx.saved] = gy"),
    "corners aligned as if they were not": ("interpolate", "interpolate", "(size - 1) / max(out_size - 1, 1)",
                                            "size / out_size"),
    "pixels as points, corners not aligned": ("interpolate", "interpolate", "1 / scale_factor) - 0.5", "1 / "
                                              "scale_factor)"),
    "positions half a pixel early": ("interpolate", "interpolate", "s = (a + 0.5) *", "s = a *"),
    "the border fades away": ("interpolate", "interpolate", "return np.clip(s, 0, size - 1)",
                              "return s if mode == 'bilinear' else np.clip(s, 0, size - 1)"),
    "the true ratio in place of the scale factor": ("interpolate", "interpolate", "scale_factor is None or out_size == "
                                                    "size else", "True else"),
    "nearest rounds": ("interpolate", "interpolate", "s = np.floor(", "s = np.round("),
    "nearest: of those that chose a pixel not all": ("interpolate", RESIZE, "ctx.save(hat(rows, H), hat(columns, W))",
                                                     "ctx.save(hat(rows, H), hat(columns, W) / np.maximum(1, "
                                                     "hat(columns, W).sum(axis=0)))"),
    "rows for columns, backward": ("interpolate", RESIZE, "return resample(rows.T, gy, columns.T)\n\n\nclass",
                                   "return resample(rows.T, gy, columns.T[:, ::-1])\n\n\nclass"),
    "RoI pooling: the last of equals": ("roi", ROI, "(value > best) *", "(value >= best) *"),
    "RoI pooling: neighbours share no row": ("roi", ROI, "start - -(p + 1) * h // count", "start + (p + 1) * h // "
                                             "count"),
    "RoI pooling: an empty bin has a gradient": ("roi", ROI, "g = xp.where(move(empty, gy)[..., None], 0, g)", "pass"),
    "RoI pooling: x2 itself left out": ("roi", ROI, "end - start + 1, 1)", "end - start, 1)"),
    "RoIAlign: aligned without its half pixel": ("roi", ROI, "start, end = start - 0.5, end - 0.5", "pass"),
    "RoIAlign: a point per pixel, rounded down": ("roi", ROI, "np.ceil(length / count)", "np.floor(length / count)"),
    "RoIAlign: points outside count": ("roi", ROI, "((s >= -1) & (s <= size)) / points[r]", "1 / points[r]"),
    "RoIAlign: weights of the two pixels swapped": ("roi", ROI, "weight * (1 - (s - low)), R", "weight * (s - low), R"),
    "RoI pooling: = for += where RoIs overlap": ("roi", ROI, "add_at(gx, ((first[some] + offset[some]) * C + channel)"
                                                 ".ravel(), g[some].ravel())",
                                                 "gx[((first[some] + offset[some]) * C + channel)"
                                                 ".ravel()] = g[some].ravel()"),
    "RoIAlign: one RoI's rows overwrite": ("roi", ROI, "gx[picture, begin:end, columns[r]] += B[r].T @ lines",
                                           "gx[picture, begin:end, columns[r]] = B[r].T @ lines"),
    "RoI pooling rounds half to even": ("roi", "roi", "(whole + np.sign(v) * (abs(v - whole) >= 0.5)).astype(int)",
                                        "np.round(v).astype(int)"),
    "plain RoI pooling: neighbours share no row": ("roi", "roi", "start - -(p + 1) * h // count",
                                                   "start + (p + 1) * h // count"),
    "plain RoI pooling: an empty bin has a gradient": ("roi", "roi", "xp.where(arg < 0, 0, gy)", "gy"),
    "plain RoI pooling: x2 itself left out": ("roi", "roi", "end - start + 1, 1)", "end - start, 1)"),
    "plain RoI pooling: another row of the bin": ("roi", "roi", "top + t // (right - left)",
                                                  "top + t // (bottom - top)"),
    "plain RoI pooling: the first picture for all": ("roi", "roi", "(int(n) * H + top", "(top"),
    "plain RoIAlign: aligned without its half pixel": ("roi", "roi", "(start - 0.5, end - 0.5) if aligned", "(start, "
                                                       "end) if aligned"),
    "plain RoIAlign: points outside count": ("roi", "roi", "((s >= -1) & (s <= size)) / max", "(s == s) / max"),
    "plain RoIAlign: as large as it is, not at least a pixel": ("roi", "roi", "max(end - start, 1)", "end - start"),
    "plain RoIAlign: one RoI's pixels overwrite": ("roi", "roi", "gx[at] += A.T @ g @ B", "gx[at] = A.T @ g @ B"),
    "Winograd: two rows subtracted, not added": ("conv", WINOGRAD, "xp.add(d[1], d[2], out=planes[1])",
                                                 "xp.subtract(d[1], d[2], out=planes[1])"),
    "Winograd: y1 with the last product added": ("conv", WINOGRAD, "xp.subtract(p1.reshape", "xp.add(p1.reshape"),
    "Winograd: a half lost in the weight's gradient": ("conv", WINOGRAD, "(a[1] - a[2]) / 2", "a[1] - a[2]"),
    "nearest unpooling: = for += over a block": ("unpool", "unpool", "gx += last(gy[:, :, i::sh, j::sw])",
                                                 "gx[...] = last(gy[:, :, i::sh, j::sw])"),
    "bed of nails: another corner backward": ("unpool", "unpool", "return gy[:, :, ::sh, ::sw]",
                                              "return gy[:, :, sh - 1::sh, sw - 1::sw]"),
    "max unpooling: what did not stay has a gradient": ("unpool", "unpool", "xp.where(stays, gx, 0)",
                                                        "xp.where(stays, gx, gx)"),
    "max unpooling: of values at one place the first stays": ("unpool", "unpool", "(1, h * w + 1,", "(-h * w, 0,"),
    "smooth L1: a slope at 0 where it has none": ("loss_elementwise", "loss_elementwise", "else xp.sign(d)",
                                                  "else xp.sign(d) + (d == 0)"),
    "smooth L1: beta forgotten": ("loss_elementwise", "loss_elementwise", "xp.clip(d / beta, -1, 1)",
                                  "xp.clip(d, -1, 1)"),
    "squared error: its 2 lost": ("loss_elementwise", "loss_elementwise", "_weigh(ctx, 2 * gy)", "_weigh(ctx, gy)"),
    "hinge pulls at the margin": ("loss_elementwise", "loss_elementwise", "ctx.save(-y * (short > 0))",
                                  "ctx.save(-y * (short >= 0))"),
    "binary cross entropy: the target's gradient forgets the positives": (
        "loss_elementwise", "loss_elementwise", "p * below - above + (p - 1) * log", "-x"),
    "binary cross entropy: both sides weighed alike": ("loss_elementwise", "loss_elementwise", "(1 - t) * above",
                                                       "p * t * above"),
    "binary cross entropy: positives weighed forward only": ("loss_elementwise", "loss_elementwise",
                                                             "(1 - t) * a - p * t * b", "(1 - t) * a - t * b"),
    "a mean of losses spread as a sum": ("loss_elementwise", "loss", "gy / (total + (total == 0)) if", "gy if"),
    "smooth L1: a lost sign for the target": ("loss_elementwise", "loss_elementwise", "return g, -g", "return g, g"),
}

# These change what both storeys use: argument checks, sizes, bins.
SHARED = {"ceil_mode does nothing", "ceil_mode drops a window that starts in the last pixel",
          "ceil_mode drops every window that ends outside", "padding counts although it should not",
          "corners aligned as if they were not", "pixels as points, corners not aligned",
          "positions half a pixel early", "the border fades away", "the true ratio in place of the scale factor",
          "nearest rounds", "RoI pooling rounds half to even", "adaptive bins end too early",
          "adaptive bins begin too late", "a pyramid from its top", "a pyramid with the channels last"}


class Mutant:
    """``with Mutant(family, file, old, new) as cases``: the family's cases on the changed code; all restored after.

    The changed source runs in its own module's namespace, and so do, unchanged, the modules that import from it.
    """

    def __init__(self, family: str, file: str, old: str, new: str):
        self.family, self.file, self.old, self.new = family, file, old, new
        self.fast = file.startswith("fast/")

    def reload(self) -> list[str]:
        """The modules to run again, the changed one first."""
        if not self.fast:
            return list(dict.fromkeys(f"minicv.ops.{name}" for name in (self.file, self.family)))
        name = "minicv." + self.file.removesuffix("/__init__").replace("/", ".")
        package = name.rpartition(".")[0]
        if package == "minicv.fast":  # a file by itself, or the package of several
            return [name]
        return [name, *(n for n in sys.modules if n.startswith(package + ".") and n != name), package]

    def __enter__(self):
        names, self.table = self.reload(), dict(FAST)
        self.namespaces = {name: dict(vars(sys.modules[name])) for name in names}
        self.tensor = dict(vars(Tensor))  # some families hang operators on it
        for name in names:
            path = Path(sys.modules[name].__file__)
            source = path.read_text()
            if name == names[0]:
                assert source.count(self.old) >= 1, f"{path.name} has changed: {self.old!r} is not there"
                source = source.replace(self.old, self.new)
            exec(compile(source, str(path), "exec"), vars(sys.modules[name]))
            if name.endswith(".winograd"):
                vars(sys.modules[name]).update(CHANNELS=1, PIXELS=1)  # else no case is large enough for it
        # The table leads from the Functions as they are now to the fast versions as they are now.
        function._fast.update({getattr(sys.modules[p.__module__], p.__name__): getattr(sys.modules[f.__module__],
                                                                                       f.__name__)
                               for p, f in self.table.items()})
        return sys.modules[f"minicv.ops.{self.family}"].CASES

    def __exit__(self, *error):
        for name, values in self.namespaces.items():
            vars(sys.modules[name]).clear()
            vars(sys.modules[name]).update(values)
        function._fast.clear()
        function._fast.update(self.table)
        for name, value in self.tensor.items():
            if vars(Tensor).get(name) is not value:
                setattr(Tensor, name, value)


def noticed(cases: list, storey: str) -> str:
    """The first case, and check, that fails on a storey; "" if none does. Small ones first: loops over large ones take
    seconds.

    A case that only crashes shows nothing of the checks: then another must fail, or the crash is raised.
    """
    crash = None
    for case in sorted(cases, key=lambda case: sum(a.size for a in case.arrays() if a is not None)):
        for check in (lambda case: harness.check_loop(case, "numpy", "float64"), harness.check_gradient):
            try:
                with harness.on_storey(storey):
                    check(case)
            except AssertionError as error:
                return f"{case}: {error}"
            except Exception as error:
                crash = error
    if crash:
        raise crash
    return ""


def test_there_are_enough():
    assert len(MUTATIONS) >= 25
    assert sum(file.startswith("fast/") for _, file, _, _ in MUTATIONS.values()) >= 10


@pytest.mark.parametrize("family, file", sorted({(m[0], m[1]) for m in MUTATIONS.values()}))
def test_without_a_mutation_nothing_is_noticed(family, file):
    with Mutant(family, file, "import", "import") as cases:
        assert noticed(cases, "plain") == noticed(cases, "fast") == ""


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mutation_is_noticed_on_its_storey(name):
    with Mutant(*MUTATIONS[name]) as cases:
        storey, other = ("fast", "plain") if MUTATIONS[name][1].startswith("fast/") else ("plain", "fast")
        assert noticed(cases, storey), f"{name}: no case noticed it"
        if any(harness.storeys(case) == ("plain", "fast") for case in cases):
            assert bool(noticed(cases, other)) == (name in SHARED), f"{name}: noticed on the wrong storey, {other}"
