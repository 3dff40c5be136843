import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor, models, nn
from minicv.cli.main import main
from minicv.models.summary import summarize
from minicv.nn import init


def paper(name, size):
    with init.blank():
        return summarize(models.build(name, "paper"), size)


class Small(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 5, 3, dilation=2, padding=2)
        self.fc = nn.Linear(60, 7)

    def forward(self, x):
        return self.fc(F.flatten(self.b(F.max_pool2d(F.relu(self.a(x)), 2)), 1))


def test_a_small_network_by_hand():
    s = summarize(Small(), (3, 12, 16))
    assert [(r.name, r.op) for r in s.rows] == [
        ("a", "conv2d 3x3, stride 2, padding 1"), ("", "max_pool2d 2x2, stride 2"),
        ("b", "conv2d 3x3, padding 2, dilation 2"), ("fc", "linear")]
    assert [r.shape for r in s.rows] == [(4, 6, 8), (4, 3, 4), (5, 3, 4), (7,)]
    assert [r.parameters for r in s.rows] == [4 * 27 + 4, 0, 5 * 36 + 5, 7 * 60 + 7]
    assert [r.macs for r in s.rows] == [4 * 6 * 8 * 27, 0, 5 * 3 * 4 * 36, 420]
    assert [r.field for r in s.rows] == [
        (3, 3), (5, 5),  # 1 + 2, then + 1 * 2
        (21, 21),  # 5 + 2 * 2 * 4
        (29, 33)]  # 3 x 4 positions, 4 apart: 21 + 2 * 4, 21 + 3 * 4
    assert [r.jump for r in s.rows] == [(2, 2), (4, 4), (4, 4), ()]
    # Outputs of a whose window 2a-1 ... 2a+1 is inside: all but the first. Windows of the pool hold two outputs of a;
    # the first has the bad one. Taps a-2, a, a+2 of b leave a map of 3 or 4 always.
    assert [r.clean for r in s.rows] == [(5, 7), (2, 3), (0, 0), (0, 0)]
    assert (s.parameters, s.macs, s.output) == (112 + 185 + 427, 5184 + 2160 + 420, (7,))
    assert str(s).splitlines()[-2].startswith("total: 724 parameters, 7,764 MACs")


def test_transposed_convolution_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1, bias=False))
    up = summarize(model, (1, 8, 8)).rows[1]
    assert (up.op, up.shape) == ("conv_transpose2d 4x4, stride 2, padding 1", (3, 8, 8))
    assert up.parameters == 2 * 3 * 16 and up.macs == 2 * 4 * 4 * 3 * 16  # each input stamps 3 kernels of 16
    assert up.field == (4, 4)  # each output adds two inputs, which see 2 pixels each, side by side
    assert up.jump == (1, 1)
    assert up.clean == (6, 6)  # the first and the last output have but one of their two inputs


def test_shared_weights_count_once_and_work_twice():
    class Twice(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    s = summarize(Twice(), (2, 5, 5))
    assert [r.parameters for r in s.rows] == [38, 0] and s.parameters == 38
    assert [r.macs for r in s.rows] == [25 * 36, 25 * 36]


def test_pools_by_hand():
    class Pools(nn.Module):
        def forward(self, x):
            x, switches = F.max_pool2d(x, 2, return_indices=True)
            assert switches.shape == x.shape == (1, 3, 6, 5)
            x = F.adaptive_avg_pool2d(F.avg_pool2d(x, 3, stride=1, padding=1), (4, 2))
            return F.adaptive_max_pool2d(x, 1)

    s = summarize(Pools(), (3, 13, 11))
    assert [(r.op, r.shape) for r in s.rows] == [
        ("max_pool2d 2x2, stride 2", (3, 6, 5)), ("adaptive_avg_pool2d", (3, 4, 2)), ("adaptive_max_pool2d", (3, 1, 1))]
    # Pairs of rows; rows -1..1 to 4..6 of the six make the average, all but the first and last of them inside; bins
    # 0-1, 1-2, 3-4, 4-5 of these: two of them, rows -2..5, 0..7, 4..11 and 6..13 of the image.
    rows, columns = s.rows[1].axes
    assert rows.begin.tolist() == [-2, 0, 4, 6] and rows.end.tolist() == [5, 7, 11, 13]
    assert rows.clean.tolist() == [False, True, True, False]
    assert columns.begin.tolist() == [-2, 2] and columns.end.tolist() == [7, 11]  # bins 0-2 and 2-4 of five
    assert s.rows[2].field == (16, 14) and s.rows[2].clean == (0, 0)
    assert (s.parameters, s.macs) == (0, 0)


@pytest.mark.parametrize("how", ["nearest", "bed of nails", "max"])
def test_unpooling_by_hand(how):
    class Unpool(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            x, switches = F.max_pool2d(x, 2, return_indices=True)
            if how == "max":
                x = F.max_unpool2d(x, switches, 2)
            else:
                x = (F.unpool_nearest if how == "nearest" else F.unpool_bed_of_nails)(x, 2)
            return self.conv(x)

    s = summarize(Unpool(), (3, 8, 8))
    unpooled, conv = s.rows[1:]
    assert unpooled.shape == (3, 8, 8) and unpooled.jump == (1, 1)
    assert unpooled.axes[0].begin.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    assert unpooled.axes[0].end.tolist() == [1, 1, 3, 3, 5, 5, 7, 7]
    assert conv.axes[1].begin.tolist() == [0, 0, 2, 2, 4, 4]  # three next to each other are of two blocks: 4 pixels
    assert conv.field == (4, 4) and conv.clean == (6, 6)


def test_the_model_stays_as_it_was():
    model = models.build("unet", width=2, depth=1)
    model.train()
    model.contract[0].eval()
    before = model.state_dict()
    summarize(model, (1, 20, 20))
    assert model.training and not model.contract[0].training and model.contract[1].training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert model(Tensor(np.ones((1, 1, 20, 20), "f4"))).shape == (1, 2, 4, 4)  # operations compute again


def test_no_arrays_are_computed_for_a_large_image():
    s = summarize(nn.Sequential(nn.Conv2d(3, 10 ** 6, 3), nn.MaxPool2d(2)), (3, 4002, 4002))  # 64 TB
    assert s.rows[-1].shape == (10 ** 6, 2000, 2000)


# ---------------------------------------------------------------------------------------------------------
# Against measurement
# ---------------------------------------------------------------------------------------------------------
class Skips(nn.Module):
    """Branches with different fields, a crop, both ways up, strides, dilation"""

    def __init__(self, padding):
        self.down = nn.Conv2d(1, 2, 3, stride=2, padding=padding)
        self.wide = nn.Conv2d(2, 2, 3, dilation=2, padding=2 * padding)
        self.up = nn.ConvTranspose2d(2, 2, 3, stride=2)
        self.first, self.last = nn.Conv2d(1, 2, 5, padding=2 * padding), nn.Conv2d(4, 2, 3, padding=padding)

    def forward(self, x):
        y = self.up(F.tanh(self.wide(F.tanh(self.down(x)))))
        z = F.tanh(self.first(x))
        H, W = (min(a, b) for a, b in zip(y.shape[2:], z.shape[2:], strict=True))
        return self.last(F.concatenate([F.center_crop(y, (H, W)), F.center_crop(z, (H, W))], 1))


class Layer2(nn.Module):
    """The convolutions of a ResNet, as far as its second layer"""

    def __init__(self):
        self.resnet = models.build("resnet18", in_channels=1, width=2)

    def forward(self, x):
        r = self.resnet
        return r.layer2(r.layer1(F.max_pool2d(F.relu(r.bn1(r.conv1(x))), 3, 2, 1)))


def net(name):
    """A network of one input channel, and a image's size."""
    if name == "unet":
        return models.build("unet", width=2, depth=2, dropout=0.0), (60, 60)
    if name == "up and up":
        return nn.Sequential(
            nn.Conv2d(1, 2, 5, stride=4), nn.ConvTranspose2d(2, 2, 2, stride=2), nn.Conv2d(2, 1, 3),
            nn.ConvTranspose2d(1, 2, 2, stride=2), nn.Conv2d(2, 1, 3)), (41, 53)
    if name == "gaps":
        return nn.Sequential(nn.Conv2d(1, 2, 2, stride=3, padding=1), nn.Conv2d(2, 1, (1, 3))), (20, 22)
    return (Layer2(), (65, 72)) if name == "resnet" else (Skips(padding=1 if name == "skips" else 0), (33, 40))


@pytest.mark.parametrize("name", ["skips", "valid", "up and up", "gaps"])  # max pools pass a gradient one way only
def test_fields_are_what_the_gradient_reaches(name):
    minicv.seed(0)
    model, size = net(name)
    for p in model.parameters():
        p.data = abs(p.data).astype(np.float64) + 0.1  # positive, so that nothing cancels
    summary = summarize(model, (1, *size))
    x = Tensor(np.ones((1, 1, *size)), requires_grad=True)
    shape = model(x).shape
    assert shape[1:] == summary.output
    for axis in (0, 1):
        for a in range(shape[2 + axis]):
            cotangent = np.zeros(shape)
            cotangent[(slice(None), slice(None), a) if axis == 0 else (..., a)] = 1
            x.grad = None
            model(x).backward(cotangent)
            reached = np.flatnonzero(x.grad[0, 0].any(axis=1 - axis))
            see = summary.axes[axis]
            if see.clean[a]:
                assert (reached[0], reached[-1]) == (see.begin[a], see.end[a]), (axis, a)
            else:  # the image's part of the field, or less: a border may cut off more than the image's end
                assert see.begin[a] <= reached[0] and reached[-1] <= see.end[a], (axis, a)
    assert all(see.clean.any() for see in summary.axes)


@pytest.mark.parametrize("name", ["skips", "valid", "up and up", "unet", "resnet"])
def test_clean_outputs_are_the_same_inside_a_larger_image(name):
    """There, pixels take the place of padding: outputs that see padding differ, with random weights, and no others."""
    minicv.seed(1)
    model, (H, W) = net(name)
    model.eval()
    rows, columns = summarize(model, (1, H, W)).axes
    margin = 32  # a multiple of all jumps
    large = np.random.default_rng(0).standard_normal((1, 1, H + 2 * margin, W + 2 * margin)).astype(np.float32)
    alone = model(Tensor(large[:, :, margin:margin + H, margin:margin + W].copy())).numpy()
    top, left = int(margin / rows.jump), int(margin / columns.jump)
    inside = model(Tensor(large)).numpy()[:, :, top:top + alone.shape[2], left:left + alone.shape[3]]
    same = np.isclose(alone, inside, rtol=1e-4, atol=1e-5).all(axis=(0, 1))  # sums in another order
    np.testing.assert_array_equal(same, rows.clean[:, None] & columns.clean)
    assert same.any()


# ---------------------------------------------------------------------------------------------------------
# The papers' networks
# ---------------------------------------------------------------------------------------------------------
def test_unet():
    s = paper("unet", (1, 572, 572))
    assert s.output == (2, 388, 388) and s.parameters == 31_030_658
    convs = [r for r in s.rows if r.op.startswith("conv")]
    assert len(convs) == 23
    assert s.macs == sum(r.macs for r in convs)
    assert convs[0].macs == 570 * 570 * 64 * 9
    assert all(r.clean == r.shape[1:] for r in s.rows)  # "valid" convolutions: no padding anywhere
    bottom = next(r for r in s.rows if r.name == "contract.4.conv2")
    assert bottom.shape == (1024, 28, 28) and bottom.jump == (16, 16)
    assert bottom.field == (140, 140)  # 5, 6, 14, 16, 32, 36, 68, 76, 140: twice + 2 * 2j, pool + j; j = 1, 2, ... 16
    # Upwards, an output of the last map needs 5 of its own level, these 3 of the level below (pairs are made of one),
    # with two convolutions 7, and so on 4, 8; 4 or 5, 8 or 9; at most 5 at the bottom: 140 + 4 * 16.
    assert s.rows[-1].field == (204, 204) and s.rows[-1].jump == (1, 1)


def test_vgg16():
    s = paper("vgg16", (3, 224, 224))
    assert (s.parameters, s.macs, s.output) == (138_357_544, 15_470_264_320, (1000,))
    pool5 = [r for r in s.rows if r.op.startswith("max_pool")][-1]
    assert (pool5.shape, pool5.field, pool5.jump) == ((512, 7, 7), (212, 212), (32, 32))
    assert len([r for r in s.rows if r.macs]) == 16


def test_alexnet():
    s = paper("alexnet", (3, 224, 224))
    assert (s.parameters, s.macs) == (61_100_840, 714_188_480)
    # 55^2 64 363 + 27^2 192 1600 + 13^2 (384 1728 + 256 3456 + 256 2304) + 9216 4096 + 4096^2 + 4096000
    assert [r.field[0] for r in s.rows if len(r.shape) == 3][:8] == [11, 19, 51, 67, 99, 131, 163, 195]


def test_resnet50_and_googlenet():
    s = paper("resnet50", (3, 224, 224))
    assert (s.parameters, s.macs) == (25_557_032, 4_089_184_256)  # torchvision states 4.09 GFLOPS, and means MACs
    last = [r for r in s.rows if r.name == "layer4.2.bn3"][0]
    # The stem sees 7, its pool 11; then each 3x3 adds 2 j: 11 + 3 * 2 * 4 = 35, + 2 * 4 + 3 * 2 * 8 = 91,
    # + 2 * 8 + 5 * 2 * 16 = 267, + 2 * 16 + 2 * 2 * 32 = 427
    assert (last.shape, last.field, last.jump) == ((2048, 7, 7), (427, 427), (32, 32))
    s = paper("googlenet", (3, 224, 224))
    assert (s.parameters, s.macs) == (6_624_904, 1_498_376_192)


def test_the_command(capsys):
    assert main(["summary", "unet", "--preset", "paper"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unet paper, input 1x572x572"
    assert lines[1].split() == ["layer", "operation", "output", "parameters", "MACs", "field", "jump", "clean"]
    first = ["contract.0.conv1", "conv2d", "3x3", "64x570x570", "640", "187,142,400", "3", "1", "570"]
    assert lines[2].split() == first
    assert lines[-2].startswith("total: 31,030,658 parameters, 150,428,424,448 MACs")
    assert main(["summary", "alexnet", "--input", "1x100x120"]) == 0
    assert capsys.readouterr().out.startswith("alexnet compact, input 1x100x120\n")


@pytest.mark.parametrize(("size", "message"), [
    ("3x224", "--input 3x224: must be CxHxW, as in 3x224x224"), ("3x0x9", "must be CxHxW"), ("axbxc", "must be CxHxW"),
    ("3x62x63", "AlexNet: the input must be (N, 3, H, W), H and W at least 63, got (1, 3, 62, 63)")])
def test_the_command_with_wrong_input(capsys, size, message):
    assert main(["summary", "alexnet", "--input", size]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_a_natural_input(name):
    for preset in ("paper", "compact"):
        with init.blank():
            model = models.build(name, preset)
        s = summarize(model, model.INPUT[preset])
        auxiliary = sum(p.size for part, p in model.named_parameters() if part.startswith("auxiliary"))  # in training
        assert sum(r.parameters for r in s.rows) + auxiliary == model.num_parameters() == s.parameters
        assert ("only training runs" in str(s)) == (auxiliary > 0) == (name == "pspnet")
        if name != "sppnet":  # whose pyramid's levels, side by side, are maps of several sizes
            assert all(r.axes for r in s.rows)  # what it sees is known everywhere
