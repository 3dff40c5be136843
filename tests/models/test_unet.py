import numpy as np
import pytest

import minicv
from minicv import Tensor, models, nn
from minicv.data import Cells, standardize
from minicv.models.segmentation.unet import UNet
from tests.models.segmentation.dispatched import check_strict_step
from tests.models.torch_unet import torch_unet, torch_with_one_thread  # noqa: F401 - the fixture torch


def unet(seed=0, **options):
    minicv.seed(seed)
    return models.build("unet", **{"width": 4, "dropout": 0.0, **options})


def random_image(height, width, channels=1, seed=0):
    """Textured everywhere, so that a tile put at the wrong place shows."""
    cells = Cells(channels, (height, width), seed)
    return np.concatenate([cells[i].image for i in range(channels)])


def sides(size, depth, lost):
    """Side lengths of all maps by U-Net's Fig. 1, one after the other; None where a step does not work."""
    maps = []

    def two_convs(n):
        maps.extend([n - lost // 2, n - lost])
        return n - lost

    n = size
    for _ in range(depth):
        n = two_convs(n)
        if n < 2 or n % 2:
            return None
        n //= 2
    n = two_convs(n)
    for _ in range(depth):
        n *= 2
        maps.append(n)
        n = two_convs(n)
    maps.append(n)  # the 1x1
    return maps if min(maps) > 0 else None


# ------------------------------------------------------------------------------------------------- the paper's numbers

# By hand: a conv of c inputs, k outputs and a 3x3 kernel has 9ck + k numbers; the up-convs are 2x2, the last is 1x1.
#   down   1->64        640    64->64      36,928
#         64->128    73,856   128->128    147,584
#        128->256   295,168   256->256    590,080
#        256->512 1,180,160   512->512  2,359,808
#        512->1024 4,719,616 1024->1024 9,438,208           sum 18,842,048
#   up  1024->512 2,097,664  then 1024->512 4,719,104  512->512 2,359,808
#        512->256   524,544        512->256 1,179,904  256->256   590,080
#        256->128   131,200        256->128   295,040  128->128   147,584
#        128->64     32,832        128->64     73,792   64->64     36,928     sum 12,188,480
#   1x1   64->2         130
PARAMETERS = 18_842_048 + 12_188_480 + 130


def test_paper_preset_has_the_papers_layers_and_31_million_parameters():
    model = models.build("unet", "paper")
    assert model.num_parameters() == PARAMETERS == 31_030_658
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23  # "In total the network has 23 convolutional layers."
    assert model.output_size(572) == 388
    assert model.input_size(388) == 572


def record_sides(monkeypatch):
    seen = []
    for layer in (nn.Conv2d, nn.ConvTranspose2d):
        def forward(self, x, original=layer.forward):
            y = original(self, x)
            seen.append(y.shape[1:])
            return y
        monkeypatch.setattr(layer, "forward", forward)
    return seen


FIGURE_1 = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28, 56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
CHANNELS = [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1]  # times the width, all before the 1x1


def test_maps_have_the_sizes_of_figure_1(monkeypatch):
    seen = record_sides(monkeypatch)
    with minicv.no_grad():
        y = unet(preset="paper", width=1)(Tensor(random_image(572, 572)[None]))
    assert y.shape == (1, 2, 388, 388)
    assert [(h, w) for _, h, w in seen] == [(n, n) for n in FIGURE_1]
    assert [c for c, _, _ in seen] == [*CHANNELS, 2]
    assert sides(572, 4, 4) == FIGURE_1


@pytest.mark.slow
def test_the_whole_paper_network_equals_pytorch(monkeypatch, torch):
    """572 -> 388 with all 31 million parameters, float32."""
    model = unet(preset="paper", width=64)
    seen = record_sides(monkeypatch)
    x = standardize(random_image(572, 572))[None]
    with minicv.no_grad():
        y = model(Tensor(x)).numpy()
    assert [c for c, _, _ in seen] == [64 * c for c in CHANNELS] + [2]
    weights = {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
    expected = torch_unet(torch, torch.from_numpy(x), weights, depth=4, padding=0).numpy()
    # float32: sums of up to 9216 products through 23 layers
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * abs(expected).max())


# --------------------------------------------------------------------------------------------------------- the same net

@pytest.mark.parametrize(("depth", "width", "padding", "shape"), [
    (3, 4, "valid", (2, 2, 92, 100)),  # 88 fewer: 4 x 12
    (3, 4, "same", (2, 3, 16, 24)),
    (4, 2, "valid", (1, 1, 188, 204)),  # 184 fewer: 4 x 20
    (1, 3, "valid", (1, 2, 20, 18)),  # 16 fewer: 4 x 2
    (2, 3, "same", (3, 1, 12, 4)),
    (0, 3, "valid", (1, 1, 7, 6)),  # no pooling: three convolutions
])
def test_scores_and_all_gradients_equal_pytorch(depth, width, padding, shape, torch):
    model = unet(in_channels=shape[1], num_classes=3, depth=depth, width=width, padding=padding)
    rng = np.random.default_rng(depth)
    for p in model.parameters():  # biases too, which start at 0
        p.data = p.data.astype(np.float64) + 0.1 * rng.standard_normal(p.shape)
    x = Tensor(rng.standard_normal(shape), requires_grad=True)
    y = model(x)
    cotangent = rng.standard_normal(y.shape)
    y.backward(cotangent)

    weights = {name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()}
    tx = torch.tensor(x.data, requires_grad=True)
    ty = torch_unet(torch, tx, weights, depth, 0 if padding == "valid" else 1)
    ty.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(x.grad, tx.grad.numpy(), rtol=1e-9, atol=1e-10)
    for name, p in model.named_parameters():
        expected = weights[name].grad.numpy()
        assert np.any(expected), name
        np.testing.assert_allclose(p.grad, expected, rtol=1e-9, atol=1e-11 * abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_summed_skips_are_concatenated_ones_with_the_same_weights_for_both(padding):
    """conv([a, b]) with the weights [w, w] is conv(a + b) with w: FCN's skips are a special case of U-Net's."""
    summed, both = (unet(width=3, depth=2, padding=padding, skip=skip) for skip in ("sum", "concatenate"))
    state = summed.state_dict()
    for i in range(2):
        key = f"expand.{i}.conv1.weight"
        state[key] = np.concatenate([state[key], state[key]], axis=1)
    both.load_state_dict(state)
    x = Tensor(random_image(64, 52)[None])
    np.testing.assert_allclose(summed(x).data, both(x).data, rtol=1e-4, atol=1e-5)
    # the first 3x3 of each level up has half the inputs: 9 x 6 x 6 fewer weights, and 9 x 3 x 3
    assert both.num_parameters() - summed.num_parameters() == 9 * 6 * 6 + 9 * 3 * 3


# ---------------------------------------------------------------------------------------------------------------- sizes

NETS = [(depth, padding) for depth in (1, 2, 3, 4) for padding in ("valid", "same")]


@pytest.mark.parametrize(("depth", "padding"), NETS)
def test_output_size_is_what_the_maps_come_to(depth, padding):
    """Every side up to 300: either the size of the last map, or the reason why there is none."""
    model, lost = unet(width=1, depth=depth, padding=padding), 4 if padding == "valid" else 0
    working = [n for n in range(1, 400) if sides(n, depth, lost)]
    for size in range(-3, 301):
        maps = sides(size, depth, lost) if size > 0 else None
        if maps:
            assert model.output_size(size) == maps[-1]
            continue
        with pytest.raises(ValueError) as error:
            model.output_size(size)
        message = str(error.value)
        n, reason = size, "nothing is left of the output"
        for level in range(depth):
            n -= lost
            if n > 0 and n % 2:
                reason = f"level {level} would pool a map of side {n}, which is odd"
                break
            n //= 2
        assert message.startswith(f"UNet: an input side of {size} does not work: {reason}. Sides that work: ")
        near = [int(word) for word in message.rpartition(": ")[2].split(", ")]
        # the next side that works, and the one before it if there is one
        above = next(n for n in working if n > size)
        below = [n for n in working if n < size][-1:]
        assert near == below + [above]


@pytest.mark.parametrize(("depth", "padding"), NETS)
def test_input_size_is_the_smallest_that_gives_enough(depth, padding):
    model, lost = unet(width=1, depth=depth, padding=padding), 4 if padding == "valid" else 0
    outputs = {n: maps[-1] for n in range(1, 500) if (maps := sides(n, depth, lost))}
    for output in range(-1, 200):
        best = next(n for n, size in outputs.items() if size >= output)
        assert model.input_size(output) == best
        assert model.output_size(best) == outputs[best] >= output


@pytest.mark.parametrize(("depth", "padding"), NETS)
def test_the_network_gives_the_size_that_output_size_says(depth, padding):
    model = unet(width=1, depth=depth, padding=padding)
    height, width = model.input_size(1), model.input_size(2 ** depth + 5)
    with minicv.no_grad():
        y = model(Tensor(random_image(height, width)[None]))
    assert y.shape == (1, 2, model.output_size(height), model.output_size(width))


@pytest.mark.parametrize(("shape", "message"), [
    ((1, 1, 572, 571), r"UNet: an input side of 571 does not work: level 0 would pool a map of side 567, which is odd. "
                       r"Sides that work: 556, 572"),
    # 574 - 4 = 570, 570/2 - 4 = 281
    ((1, 1, 574, 572), r"an input side of 574 does not work: level 1 would pool a map of side 281, which is odd. "
                       r"Sides that work: 572, 588"),
    ((1, 1, 188, 172), r"an input side of 172 does not work: nothing is left of the output. Sides that work: 188"),
    ((1, 3, 188, 188), r"UNet: the input must be \(N, 1, H, W\), each at least 1, got \(1, 3, 188, 188\)"),
    ((1, 188, 188), r"UNet: the input must be \(N, 1, H, W\), each at least 1, got \(1, 188, 188\)"),
])
def test_inputs_that_do_not_work(shape, message):
    with pytest.raises(ValueError, match=message):
        unet(preset="paper", width=1)(Tensor(np.zeros(shape, np.float32)))


@pytest.mark.parametrize(("options", "message"), [
    ({"padding": "full"}, r"UNet\(padding='full'\): 'valid' or 'same'"),
    ({"width": 0}, r"UNet\(in_channels=1, num_classes=2, width=0, depth=3\): each must be at least 1"),
    ({"width": -4}, r"width=-4, depth=3\): each must be at least 1"),
    ({"num_classes": 0}, "num_classes=0, .* each must be at least 1"),
    ({"depth": -1}, r"depth=-1\): each must be at least 1, depth 0 to 12"),
    ({"depth": 13}, r"depth=13\): each must be at least 1, depth 0 to 12"),
    ({"skip": "add"}, r"UNet\(skip='add'\): 'concatenate' or 'sum'"),
])
def test_options_that_do_not_work(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("unet", **options)


# ------------------------------------------------------------------------------------------- the overlap-tile strategy

def whole_prediction(model, image):
    """Probabilities from one input with NumPy's own mirroring: what every tiling must give."""
    _, H, W = image.shape
    size = model.input_size(H), model.input_size(W)
    before = model.total_lost() // 2
    after = [n - side - before for n, side in zip(size, (H, W), strict=True)]
    x = np.pad(standardize(image), ((0, 0), (before, after[0]), (before, after[1])), mode="reflect")
    with minicv.no_grad():
        scores = model.eval()(Tensor(x[None])).numpy()[0, :, :H, :W]
    e = np.exp(scores - scores.max(axis=0))
    probabilities = e / e.sum(axis=0)
    assert H * W == 1 or np.ptp(probabilities) > 1e-3  # a dead network would make every comparison true
    return probabilities


COMPACT, PAPER_DEPTH = {"preset": "compact", "width": 16}, {"preset": "paper", "width": 4}


@pytest.mark.parametrize(("options", "height", "width", "tiles", "calls"), [
    # Depth 3: the output is 88 smaller, and tiles start at multiples of 8: 8 from 100 -> 12, 40 from 132 -> 44.
    (COMPACT, 61, 47, (8, 40), (8 * 6, 2 * 2)),
    (COMPACT, 41, 45, (1, 33), (6 * 6, 2 * 2)),  # rounded up to 8 and 40
    (COMPACT, 5, 3, (8,), (1,)),  # smaller than a tile, mirrored again and again
    (COMPACT, 1, 130, (40,), (1 * 4,)),
    (COMPACT, 133, 100, (64,), (3 * 2,)),
    # Depth 4: 184 smaller, multiples of 16.
    (PAPER_DEPTH, 37, 60, (16, 48), (3 * 4, 1 * 2)),
    (PAPER_DEPTH, 101, 7, (48,), (3 * 1,)),
])
def test_tiled_prediction_equals_the_whole(options, height, width, tiles, calls, monkeypatch):
    model, image = unet(**options), random_image(height, width, seed=height)
    expected = whole_prediction(model, image)
    done = []
    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x: done.append(x.shape) or forward(self, x))
    for tile, count in [(None, 1), *zip(tiles, calls, strict=True)]:
        done.clear()
        result, = model.predict([image], tile)
        assert len(done) == count, "tiles"
        step = model.tile_step
        sides = [model.input_size(n if tile is None or tile >= n else -(-tile // step) * step) for n in (height, width)]
        assert set(done) == {(1, 1, *sides)}
        assert result.probabilities.shape == expected.shape and result.probabilities.dtype == np.float32
        np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=1e-5)
        sure = abs(expected[1] - expected[0]) > 2e-5
        np.testing.assert_array_equal(result.labels[sure], expected.argmax(axis=0)[sure])


def test_channels_and_classes_are_not_mixed_up_by_tiles():
    model = unet(in_channels=3, num_classes=4)
    image = random_image(30, 21, channels=3)
    result, = model.predict([image], 8)
    np.testing.assert_allclose(result.probabilities, whole_prediction(model, image), rtol=0, atol=1e-5)
    assert result.labels.shape == (30, 21) and result.labels.dtype.kind == "i"
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(result.labels, result.probabilities.argmax(axis=0))


@pytest.mark.parametrize("side", range(1, 26))
def test_without_a_tile_size_an_image_is_predicted_in_one(side, monkeypatch):
    model, done = unet(width=1), []
    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x: done.append(x.shape) or forward(self, x))
    model.predict([random_image(side, 3)])
    assert done == [(1, 1, model.input_size(side), model.input_size(3))]


def test_predict_takes_images_of_different_sizes():
    model = unet()
    images = [random_image(9, 14), random_image(20, 5)]
    together = model.predict(images, 8)
    assert [r.labels.shape for r in together] == [(9, 14), (20, 5)]
    for image, result in zip(images, together, strict=True):
        np.testing.assert_array_equal(result.probabilities, model.predict([image], 8)[0].probabilities)
    assert model.predict([]) == []


def test_predict_does_not_change_the_image_and_a_constant_one_works():
    model = unet()
    for image in (random_image(9, 9), np.full((1, 9, 9), 0.3, np.float32)):
        before = image.copy()
        result, = model.predict([image])
        np.testing.assert_array_equal(image, before)
        assert np.isfinite(result.probabilities).all()


def test_predict_ignores_contrast_and_brightness():
    """Gray values are standardized, so half the contrast on a lighter ground is the same image."""
    model, image = unet(), random_image(20, 20)
    one, two = model.predict([image, 0.5 * image + 0.3])
    assert np.ptp(one.probabilities) > 0.01
    np.testing.assert_allclose(one.probabilities, two.probabilities, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("image", "tile", "message"), [
    ((1, 30, 30), 0, r"UNet.predict\(tile=0\): the side of an output tile must be at least 1"),
    ((1, 30, 30), -8, r"UNet.predict\(tile=-8\): the side of an output tile must be at least 1"),
    ((3, 30, 30), None, r"UNet.predict: an image must be \(1, H, W\) and not empty, got \(3, 30, 30\)"),
    ((30, 30), None, r"UNet.predict: an image must be \(1, H, W\) and not empty, got \(30, 30\)"),
    ((1, 0, 30), None, r"UNet.predict: an image must be \(1, H, W\) and not empty, got \(1, 0, 30\)"),
])
def test_predictions_that_do_not_work(image, tile, message):
    with pytest.raises(ValueError, match=message):
        unet(width=1).predict([np.zeros(image, np.float32)], tile)


# ----------------------------------------------------------------------------------------------- training or evaluation

@pytest.mark.parametrize("fails", [False, True])
def test_predict_leaves_the_modes_of_all_modules_as_they_were(fails, monkeypatch):
    for outer, inner in ((True, True), (True, False), (False, True), (False, False)):
        model = unet(dropout=0.5).train(outer)
        model.contract[1].train(inner)
        before = [m.training for m in model.modules()]
        if fails:
            monkeypatch.setattr(UNet, "forward", lambda self, x: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                model.predict([random_image(9, 9)])
            monkeypatch.undo()
        else:
            model.predict([random_image(9, 9)])
        assert [m.training for m in model.modules()] == before
        assert model(Tensor(random_image(100, 100)[None])).requires_grad  # gradients are on again


def test_dropout_acts_in_training_only_at_the_lowest_level():
    model, x = unet(dropout=0.5), Tensor(random_image(100, 100)[None])
    assert (model(x).numpy() != model(x).numpy()).all()
    first, second = model.predict([random_image(9, 9)] * 2)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    model.eval()
    np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())
    minicv.seed(4)
    one = model.train()(x).numpy()
    minicv.seed(4)
    np.testing.assert_array_equal(one, model(x).numpy())


def test_predict_keeps_nothing_for_a_backward_pass(monkeypatch):
    model, scores, forward = unet(), [], UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x: scores.append(forward(self, x)) or scores[-1])
    model.predict([random_image(9, 9)])
    assert scores[0].node is None and not scores[0].requires_grad


def test_probabilities_of_extreme_scores_are_still_probabilities():
    """exp of a difference to the highest score of the whole image would be 0 for all classes of some pixels."""
    model = unet()
    model.head.weight.data = 1e4 * model.head.weight.data
    result, = model.predict([random_image(20, 20)])
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, rtol=1e-6)
    assert set(np.unique(result.labels).tolist()) == {0, 1}


@pytest.mark.parametrize(("options", "size"), [
    ({"preset": "paper"}, (188, 204)), ({"padding": "same", "skip": "sum"}, (40, 48))])
def test_a_training_step_on_the_strict_device(options, size):
    """No implicit conversion, no NumPy function, nothing that CuPy lacks: forward, backward, and the same numbers.

    The compact preset is in ``segmentation/test_every.py``."""
    check_strict_step(lambda: unet(width=3, dropout=0.5, **options), (2, 1, *size))


def test_the_average_over_turned_and_mirrored_images_turns_and_mirrors_with_the_image():
    minicv.seed(3)
    model = models.build("unet", width=2, depth=1)
    image = np.random.default_rng(0).random((1, 21, 34), dtype=np.float32)
    plain = model.predict([image], average=True)[0].probabilities
    for turned, back in ((lambda a: np.rot90(a, 1, (1, 2)), lambda a: np.rot90(a, -1, (1, 2))),
                         (lambda a: a[:, :, ::-1], lambda a: a[:, :, ::-1])):
        other = model.predict([np.ascontiguousarray(turned(image))], average=True)[0].probabilities
        np.testing.assert_allclose(back(other), plain, atol=1e-5)
    single = model.predict([image])[0].probabilities
    assert np.abs(single - plain).max() > 1e-3  # it does average
    np.testing.assert_allclose(plain.sum(axis=0), 1, atol=1e-5)
