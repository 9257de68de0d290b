"""Networks ready to use."""

from fastnn.models.alexnet import AlexNet, alexnet
from fastnn.models.cnn import cnn
from fastnn.models.lenet5 import LeNet5, lenet5
from fastnn.models.mlp import mlp
from fastnn.models.resnet import (
    CifarResNet,
    ResNet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
    resnet110,
)
from fastnn.models.vgg import VGG, vgg11, vgg16

__all__ = [
    "VGG",
    "AlexNet",
    "CifarResNet",
    "LeNet5",
    "ResNet",
    "alexnet",
    "cnn",
    "lenet5",
    "mlp",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet110",
    "vgg11",
    "vgg16",
]
