"""Plain PyTorch networks with torchvision's names, to compare with."""

from __future__ import annotations


def lenet5(torch, variant="taught"):
    nn, F = torch.nn, torch.nn.functional
    taught = variant == "taught"
    activation, pool = (F.relu, F.max_pool2d) if taught else (torch.tanh, F.avg_pool2d)

    class LeNet5(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = (
                nn.Linear(400, 120),
                nn.Linear(120, 84),
                nn.Linear(84, 10),
            )

        def forward(self, x):
            x = pool(activation(self.conv1(x)), 2)
            x = pool(activation(self.conv2(x)), 2)
            return self.fc3(activation(self.fc2(activation(self.fc1(x.flatten(1))))))

    return LeNet5()


def small_alexnet(nn):
    """AlexNet as published, of fewer channels; `nn` is torch.nn or fastnn.nn."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=5e-2, beta=0.75, k=2.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 5, padding=2, groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=5e-2, beta=0.75, k=2.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(96, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def _block(torch, in_channels, width, stride, shortcut):
    nn, F = torch.nn, torch.nn.functional

    class Subsample(nn.Module):
        def forward(self, x):
            extra = width - in_channels
            return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, extra // 2, extra - extra // 2))

    class BasicBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.downsample = None
            if stride != 1 or in_channels != width:
                projection = nn.Sequential(nn.Conv2d(in_channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
                self.downsample = projection if shortcut == "B" else Subsample()

        def forward(self, x):
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    return BasicBlock()


def _bottleneck(torch, in_channels, width, stride):
    nn, F = torch.nn, torch.nn.functional

    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.downsample = None
            if stride != 1 or in_channels != 4 * width:
                self.downsample = nn.Sequential(
                    nn.Conv2d(in_channels, 4 * width, 1, stride, bias=False),
                    nn.BatchNorm2d(4 * width),
                )

        def forward(self, x):
            y = F.relu(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
            return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    return Bottleneck()


def resnet(torch, blocks, num_classes=1000, bottleneck=False):
    """torchvision's: resnet18 has blocks (2, 2, 2, 2), resnet50 bottlenecks (3, 4, 6, 3)."""
    nn, F = torch.nn, torch.nn.functional
    grown = 4 if bottleneck else 1

    def stage(in_channels, width, count, stride):
        def block(channels, stride):
            if bottleneck:
                return _bottleneck(torch, channels, width, stride)
            return _block(torch, channels, width, stride, "B")

        rest = [block(grown * width, 1) for _ in range(count - 1)]
        return nn.Sequential(block(in_channels, stride), *rest)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.layer1 = stage(64, 64, blocks[0], 1)
            self.layer2 = stage(64 * grown, 128, blocks[1], 2)
            self.layer3 = stage(128 * grown, 256, blocks[2], 2)
            self.layer4 = stage(256 * grown, 512, blocks[3], 2)
            self.fc = nn.Linear(512 * grown, num_classes)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return ResNet()


def resnet20(torch, shortcut="A"):
    nn, F = torch.nn, torch.nn.functional

    def stage(in_channels, width, stride):
        first = _block(torch, in_channels, width, stride, shortcut)
        return nn.Sequential(first, *(_block(torch, width, width, 1, shortcut) for _ in range(2)))

    class ResNet20(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1, self.layer2 = stage(16, 16, 1), stage(16, 32, 2)
            self.layer3, self.fc = stage(32, 64, 2), nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return ResNet20()
