"""Small PyTorch networks of the kinds that people export: name, module, input shape without the batch."""

from __future__ import annotations


def networks(torch):
    nn, F = torch.nn, torch.nn.functional

    class LeNet5(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
            self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
            self.down = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

        def forward(self, x):
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + self.down(x))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=0.3)
            self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
            self.fc = nn.Linear(16, 5)

        def forward(self, x):
            x = self.blocks(F.relu(self.bn(self.stem(x))))
            return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down1, self.down2 = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
            self.bottom = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
            self.up1 = nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1)
            self.join1, self.join2 = nn.Conv2d(20, 8, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
            self.norm, self.last = nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 1)

        def forward(self, x):
            a = F.relu(self.down1(x))
            b = F.leaky_relu(self.down2(F.max_pool2d(a, 2)), 0.1)
            c = F.silu(self.bottom(F.avg_pool2d(b, 2)))
            d = F.relu(self.join1(torch.cat([self.up1(c), b], 1)))
            up = F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
            return torch.sigmoid(self.last(self.norm(F.relu(self.join2(torch.cat([up, a], 1))))))

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Sequential(nn.Linear(20, 12), nn.ELU(), nn.Linear(12, 3), nn.Tanh())
            self.decode = nn.Sequential(nn.Linear(3, 12), nn.GELU(), nn.Linear(12, 20))

        def forward(self, x):
            return self.decode(self.encode(x))

    class Policy(nn.Module):
        """Logits of actions, and a value."""

        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
            self.actor, self.critic = nn.Linear(32, 4), nn.Linear(32, 1)

        def forward(self, x):
            h = self.body(x)
            return F.log_softmax(self.actor(h), -1), self.critic(h).squeeze(-1)

    class Encoder(nn.Module):
        """A layer of a transformer, its attention written out as exporters write it."""

        def __init__(self, dim=16, heads=4):
            super().__init__()
            self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            self.position = nn.Parameter(torch.randn(1, 7, dim))

        def forward(self, x):
            x = x + self.position
            n, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            share = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).softmax(-1)
            x = x + self.out((share @ v).transpose(1, 2).reshape(n, t, c))
            return (x + self.mlp(self.norm2(x))).mean(1)

    class TorchEncoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)

        def forward(self, x):
            return self.layer(x).mean(1)

    sequence = nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, stride=2),
        nn.PReLU(8), nn.AvgPool1d(3, 2, 1), nn.ConvTranspose1d(8, 4, 4, stride=2), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    mlp = nn.Sequential(
        nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.0), nn.Linear(32, 16), nn.Sigmoid(), nn.Linear(16, 4)
    )
    return {
        "mlp": (mlp, (10,)),
        "lenet5": (LeNet5(), (1, 28, 28)),
        "resnet": (ResNet(), (3, 12, 12)),
        "unet": (UNet(), (2, 16, 24)),
        "autoencoder": (Autoencoder(), (20,)),
        "policy": (Policy(), (6,)),
        "encoder": (Encoder(), (7, 16)),
        "torch's encoder layer": (TorchEncoder(), (7, 16)),
        "sequence": (sequence, (3, 40)),
    }
