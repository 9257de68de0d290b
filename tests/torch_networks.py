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


def parts(torch):
    """What networks are made of, as PyTorch users write it: name, module, input shape without the batch."""
    nn, F = torch.nn, torch.nn.functional

    class By(nn.Module):
        """A function of its modules and of x."""

        def __init__(self, function, **modules):
            super().__init__()
            self.function = function
            for name, module in modules.items():
                setattr(self, name, module)

        def forward(self, x):
            return self.function(self, x)

    def shuffled(net, x):
        n, c, h, w = net.conv(x).shape
        return net.conv(x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    def seen(net, x):
        tokens = net.patch(x).flatten(2).transpose(1, 2)
        first = net.first.expand(tokens.shape[0], -1, -1)
        return net.layer(torch.cat([first, tokens], 1) + net.place)[:, 0]

    def causal(net, x):
        q, k, v = net.qkv(net.norm(x)).chunk(3, -1)
        barred = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        return (q @ k.transpose(1, 2) / 4).masked_fill(barred, -torch.inf).softmax(-1) @ v + x

    def resized(**settings):
        return By(lambda net, x: F.interpolate(net.conv(x), **settings), conv=nn.Conv2d(3, 4, 1)), (3, 6, 7)

    images = (3, 11, 10)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    return {
        "depthwise": (
            nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
                nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Hardswish(),
            ),
            images,
        ),
        "squeeze and excite": (
            By(
                lambda net, x: x * net.gate(x),
                gate=nn.Sequential(
                    nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.SiLU(), nn.Conv2d(2, 3, 1), nn.Hardsigmoid(),
                ),
            ),
            images,
        ),
        "shuffled channels": (By(shuffled, conv=nn.Conv2d(4, 8, 1, groups=2)), (4, 5, 6)),
        "patches": (
            By(
                seen, patch=nn.Conv2d(3, 16, 4, 4), layer=layer, first=nn.Parameter(torch.randn(1, 1, 16)),
                place=nn.Parameter(torch.randn(1, 5, 16)),
            ),
            (3, 8, 8),
        ),
        "causal attention": (By(causal, norm=nn.LayerNorm(16), qkv=nn.Linear(16, 48)), (6, 16)),
        "MultiheadAttention": (
            By(
                lambda net, x: net.layer(x, x, x, need_weights=False)[0],
                layer=nn.MultiheadAttention(16, 4, batch_first=True),
            ),
            (5, 16),
        ),
        "pixel shuffle": (By(lambda net, x: F.pixel_shuffle(net.conv(x), 2), conv=nn.Conv2d(3, 12, 3)), images),
        "bilinear with corners": resized(size=(13, 9), mode="bilinear", align_corners=True),
        "bicubic": resized(scale_factor=1.5, mode="bicubic"),
        "nearest": resized(size=(11, 5)),
        "adaptive": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d((2, 3))), (3, 6, 6)),
        "mirrored, instance norm": (
            nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.PReLU()),
            images,
        ),
        "LRN and ceil mode": (
            nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2, ceil_mode=True),
                nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.LPPool2d(2, 2),
            ),
            (3, 16, 15),
        ),
        "activations": (
            nn.Sequential(
                nn.Linear(6, 12), nn.GLU(), nn.CELU(0.7), nn.SELU(), nn.Softplus(), nn.Softsign(), nn.Mish(),
                nn.Hardtanh(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Softmin(1),
            ),
            (6,),
        ),
        "dilated sequence": (
            nn.Sequential(
                nn.ConstantPad1d((4, 0), 0.5), nn.Conv1d(2, 4, 3, dilation=2), nn.BatchNorm1d(4),
                nn.Conv1d(4, 4, 4, padding="same"), nn.AdaptiveMaxPool1d(1),
            ),
            (2, 20),
        ),
    }  # fmt: skip
