"""The classifiers in plain PyTorch, named as in torchvision: oracles for minicv's. Skips where torch is absent."""
from __future__ import annotations

from tests.oracle import require

torch = require("torch")
nn = torch.nn

from tests.benchmarks.torch_networks.dilated import SeparableConv  # noqa: E402 - needs torch

VGG_BLOCKS = {11: [1, 1, 2, 2, 2], 13: [2, 2, 2, 2, 2], 16: [2, 2, 3, 3, 3], 19: [2, 2, 4, 4, 4]}


class AlexNet(nn.Module):
    def __init__(self, num_classes=1000, hidden=4096, channels=(64, 192, 384, 256, 256)):
        super().__init__()
        a, b, c, d, e = channels
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, 1, 1), nn.ReLU(), nn.Conv2d(c, d, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(d, e, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(e * 36, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class VGG(nn.Module):
    def __init__(self, num_classes=1000, hidden=4096, depth=16, batch_norm=False):
        super().__init__()
        layers, before = [], 3
        for channels, convs in zip([64, 128, 256, 512, 512], VGG_BLOCKS[depth], strict=True):
            for _ in range(convs):
                layers += [nn.Conv2d(before, channels, 3, 1, 1)]
                layers += [nn.BatchNorm2d(channels)] if batch_norm else []
                layers += [nn.ReLU()]
                before = channels
            layers += [nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, num_classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class BasicConv2d(nn.Module):
    def __init__(self, c_in, c_out, **options):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, bias=False, **options)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c, one, red3, three, red5, five, proj):
        super().__init__()
        self.branch1 = BasicConv2d(c, one, kernel_size=1)
        self.branch2 = nn.Sequential(BasicConv2d(c, red3, kernel_size=1),
                                     BasicConv2d(red3, three, kernel_size=3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(c, red5, kernel_size=1),
                                     BasicConv2d(red5, five, kernel_size=3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(c, proj, kernel_size=1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    def __init__(self, c, num_classes):
        super().__init__()
        self.conv = BasicConv2d(c, 128, kernel_size=1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)


class GoogLeNet(nn.Module):
    def __init__(self, num_classes=1000, aux_logits=False, transform_input=False):
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        if aux_logits:
            self.aux1 = InceptionAux(512, num_classes)
            self.aux2 = InceptionAux(528, num_classes)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x):
        if self.transform_input:
            mean, std = (torch.tensor(v, dtype=x.dtype)[:, None, None]
                         for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
            x = (x * std + mean - 0.5) / 0.5
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4e(self.inception4d(self.inception4c(self.inception4b(self.inception4a(x)))))
        x = self.inception5b(self.inception5a(self.maxpool4(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, c, planes, stride, dilation, downsample):
        super().__init__()
        if dilation > 1:
            raise ValueError("torchvision dilates bottlenecks only")
        self.conv1 = nn.Conv2d(c, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, c, planes, stride, dilation, downsample):
        super().__init__()
        self.conv1 = nn.Conv2d(c, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = downsample

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, layers, block=Bottleneck, num_classes=1000, dilate=(False, False, False), width=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.inplanes, self.dilation = width, 1
        self.layer1 = self.make(block, width, layers[0], 1, False)
        self.layer2 = self.make(block, 2 * width, layers[1], 2, dilate[0])
        self.layer3 = self.make(block, 4 * width, layers[2], 2, dilate[1])
        self.layer4 = self.make(block, 8 * width, layers[3], 2, dilate[2])
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)

    def make(self, block, planes, count, stride, dilate):
        previous = self.dilation
        if dilate:
            self.dilation, stride = self.dilation * stride, 1
        downsample = None
        if stride != 1 or self.inplanes != planes * block.expansion:
            downsample = nn.Sequential(nn.Conv2d(self.inplanes, planes * block.expansion, 1, stride, bias=False),
                                       nn.BatchNorm2d(planes * block.expansion))
        blocks = [block(self.inplanes, planes, stride, previous, downsample)]
        self.inplanes = planes * block.expansion
        blocks += [block(self.inplanes, planes, 1, self.dilation, None) for _ in range(1, count)]
        return nn.Sequential(*blocks)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class XceptionBlock(nn.Module):
    def __init__(self, c_in, c1, c2, c3, stride=1, dilation=1):
        super().__init__()
        self.conv1, self.conv2 = SeparableConv(c_in, c1, 1, dilation), SeparableConv(c1, c2, 1, dilation)
        self.conv3 = SeparableConv(c2, c3, stride, dilation)
        if stride == 2 or c_in != c3:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c3, 1, stride, bias=False), nn.BatchNorm2d(c3))

    def forward(self, x):
        y = x
        for conv in (self.conv1, self.conv2, self.conv3):
            y = conv(torch.relu(y))
        return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)


class Xception(nn.Module):
    """(dilation of the exit block, of conv3 to conv5): (1, 1) with all strides, (1, 2) without the last."""

    def __init__(self, num_classes=1000, divisor=1, middle=16, strides=(2, 2), dilations=(1, 1)):
        super().__init__()
        a, b, c, d, e, f, g, h = (n // divisor for n in (32, 64, 128, 256, 728, 1024, 1536, 2048))
        self.conv1, self.bn1 = nn.Conv2d(3, a, 3, 2, 1, bias=False), nn.BatchNorm2d(a)
        self.conv2, self.bn2 = nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.block1 = XceptionBlock(b, c, c, c, 2)
        self.block2 = XceptionBlock(c, d, d, d, 2)
        self.block3 = XceptionBlock(d, e, e, e, strides[0])
        self.middle = nn.Sequential(*(XceptionBlock(e, e, e, e, 1, dilations[0]) for _ in range(middle)))
        self.exit_block = XceptionBlock(e, e, f, f, strides[1], dilations[0])
        self.conv3, self.conv4 = SeparableConv(f, g, 1, dilations[1]), SeparableConv(g, g, 1, dilations[1])
        self.conv5 = SeparableConv(g, h, 1, dilations[1])
        self.fc = nn.Linear(h, num_classes)

    def forward(self, x):
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        x = self.exit_block(self.middle(self.block3(self.block2(self.block1(x)))))
        for conv in (self.conv3, self.conv4, self.conv5):
            x = torch.relu(conv(x))
        return self.fc(x.mean((2, 3)))
