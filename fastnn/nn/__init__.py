"""What networks are composed of: layers, losses, initializers, and functions without state.

>>> model = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
>>> logits = model(images)  # arrays in, arrays out: (N, 784) -> (N, 10)
>>> step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))

networks        Module, the base of all: layers are assigned in `__init__` and used in `forward`
                Sequential, ModuleList, ModuleDict, which hold modules; Parameter, what training changes
linear          Linear, Bilinear, Identity, Flatten, Unflatten; Embedding
convolution     Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
pooling         MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d,
                AdaptiveMaxPool1d, AdaptiveMaxPool2d
sizes           Upsample, ZeroPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d
norms           BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm, GroupNorm, InstanceNorm1d, InstanceNorm2d,
                LocalResponseNorm; Normalization, by the data's mean and variance
activations     ReLU, LeakyReLU, PReLU, RReLU, ReLU6, ELU, CELU, SELU, GELU, SiLU, Swish, Mish, Softplus, Sigmoid,
                LogSigmoid, Tanh, Softsign, Hardsigmoid, Hardswish, Hardtanh, Hardshrink, Softshrink, Tanhshrink,
                Threshold, Step, Sign, GLU, Maxout, Softmax, Softmin, LogSoftmax
dropout         Dropout, Dropout2d, AlphaDropout, GaussianNoise; ActivityRegularization, a penalty on signals
losses          CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss, BCELoss, SigmoidFocalLoss, MultiMarginLoss, HingeLoss,
                SquaredHingeLoss, PerceptronLoss, SoftMarginLoss, HingeEmbeddingLoss, MSELoss, HalfMSELoss, L1Loss,
                SmoothL1Loss, HuberLoss, KLDivLoss, PoissonNLLLoss; Loss, their base; of several outputs:
                CosineEmbeddingLoss, GaussianNLLLoss, MarginRankingLoss, TripletMarginLoss
functional      the same as functions of tensors or arrays, by custom imported as F
init            initial values of parameters
utils           weight norm; parametrizations.spectral_norm

`help(nn.Linear)` tells a layer's arguments, shapes and formula, and then the methods that all layers have, such as
`parameters`, `train`, `eval`, `save` and `load`; these are told in full by `help(nn.Module)`.
"""

from fastnn.nn import functional, init, utils
from fastnn.nn.activation import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Maxout,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Sigmoid,
    Sign,
    SiLU,
    Softmax,
    Softmin,
    Softplus,
    Softshrink,
    Softsign,
    Step,
    Swish,
    Tanh,
    Tanhshrink,
    Threshold,
)
from fastnn.nn.container import ModuleDict, ModuleList, Sequential
from fastnn.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from fastnn.nn.dropout import AlphaDropout, Dropout, Dropout2d, GaussianNoise
from fastnn.nn.embedding import Embedding
from fastnn.nn.flatten import Flatten, Unflatten
from fastnn.nn.linear import Bilinear, Identity, Linear
from fastnn.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    GaussianNLLLoss,
    HalfMSELoss,
    HingeEmbeddingLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    Loss,
    MarginRankingLoss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    PerceptronLoss,
    PoissonNLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
    SoftMarginLoss,
    SquaredHingeLoss,
    TripletMarginLoss,
)
from fastnn.nn.module import Module
from fastnn.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    LayerNorm,
    LocalResponseNorm,
    Normalization,
    RMSNorm,
)
from fastnn.nn.parameter import Parameter
from fastnn.nn.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from fastnn.nn.regularization import ActivityRegularization
from fastnn.nn.resize import CircularPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, Upsample, ZeroPad2d

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "ActivityRegularization",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Bilinear",
    "CircularPad2d",
    "ConstantPad2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "GaussianNLLLoss",
    "GaussianNoise",
    "GroupNorm",
    "HalfMSELoss",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "KLDivLoss",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MaxPool1d",
    "MaxPool2d",
    "Maxout",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiMarginLoss",
    "NLLLoss",
    "Normalization",
    "PReLU",
    "Parameter",
    "PerceptronLoss",
    "PoissonNLLLoss",
    "RMSNorm",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SigmoidFocalLoss",
    "Sign",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SquaredHingeLoss",
    "Step",
    "Swish",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "TripletMarginLoss",
    "Unflatten",
    "Upsample",
    "ZeroPad2d",
    "functional",
    "init",
    "utils",
]
