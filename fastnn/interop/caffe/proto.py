"""Caffe's messages, as far as networks need them; made of this table, since Caffe's own module is seldom there.

Source: https://github.com/BVLC/caffe, src/caffe/proto/caffe.proto (names, numbers, types and defaults of fields).
"""

from __future__ import annotations

import functools
import re
from typing import Any

# name=number, * if repeated, type, : default. Types: b bool, f float, i int32, l int64, u uint32, s string, y bytes;
# others are messages and enums of this table. Packed floats lie in a file as bytes do, and are read as such at once.
_MESSAGES = """
BlobShape dim=1*l
BlobProto num=1i channels=2i height=3i width=4i data=5*y shape=7BlobShape double_data=8*y
FillerParameter type=1s:constant value=2f min=3f max=4f:1 mean=5f std=6f:1 sparse=7i:-1 variance_norm=8VarianceNorm
NetParameter name=1s layers=2*V1LayerParameter input=3*s input_dim=4*i state=6NetState input_shape=8*BlobShape
 layer=100*LayerParameter
NetState phase=1Phase:TEST level=2i stage=3*s
NetStateRule phase=1Phase min_level=2i max_level=3i stage=4*s not_stage=5*s
ParamSpec name=1s lr_mult=3f:1
LayerParameter name=1s type=2s bottom=3*s top=4*s param=6*ParamSpec blobs=7*BlobProto include=8*NetStateRule
 exclude=9*NetStateRule batch_norm_param=139BatchNormParameter bias_param=141BiasParameter clip_param=148ClipParameter
 concat_param=104ConcatParameter convolution_param=106ConvolutionParameter crop_param=144CropParameter
 dropout_param=108DropoutParameter eltwise_param=110EltwiseParameter elu_param=140ELUParameter
 exp_param=111ExpParameter flatten_param=135FlattenParameter inner_product_param=117InnerProductParameter
 input_param=143InputParameter log_param=134LogParameter lrn_param=118LRNParameter mvn_param=120MVNParameter
 pooling_param=121PoolingParameter power_param=122PowerParameter prelu_param=131PReLUParameter
 relu_param=123ReLUParameter reshape_param=133ReshapeParameter scale_param=142ScaleParameter
 softmax_param=125SoftmaxParameter slice_param=126SliceParameter swish_param=147SwishParameter
 tile_param=138TileParameter
V1LayerParameter bottom=2*s top=3*s name=4s type=5LayerType blobs=6*BlobProto include=32*NetStateRule
 exclude=33*NetStateRule param=1001*s blobs_lr=7*f concat_param=9ConcatParameter
 convolution_param=10ConvolutionParameter dropout_param=12DropoutParameter eltwise_param=24EltwiseParameter
 exp_param=41ExpParameter
 inner_product_param=17InnerProductParameter lrn_param=18LRNParameter mvn_param=34MVNParameter
 pooling_param=19PoolingParameter power_param=21PowerParameter relu_param=30ReLUParameter
 softmax_param=39SoftmaxParameter slice_param=31SliceParameter
BatchNormParameter use_global_stats=1b moving_average_fraction=2f:0.999 eps=3f:1e-5
BiasParameter axis=1i:1 num_axes=2i:1 filler=3FillerParameter
ClipParameter min=1f max=2f
ConcatParameter concat_dim=1u:1 axis=2i:1
ConvolutionParameter num_output=1u bias_term=2b:true pad=3*u kernel_size=4*u group=5u:1 stride=6*u
 weight_filler=7FillerParameter bias_filler=8FillerParameter pad_h=9u pad_w=10u kernel_h=11u kernel_w=12u
 stride_h=13u stride_w=14u axis=16i:1 dilation=18*u
CropParameter axis=1i:2 offset=2*u
DropoutParameter dropout_ratio=1f:0.5
EltwiseParameter operation=1EltwiseOp:SUM coeff=2*f
ELUParameter alpha=1f:1
ExpParameter base=1f:-1 scale=2f:1 shift=3f
FlattenParameter axis=1i:1 end_axis=2i:-1
InnerProductParameter num_output=1u bias_term=2b:true weight_filler=3FillerParameter bias_filler=4FillerParameter
 axis=5i:1 transpose=6b
InputParameter shape=1*BlobShape
LogParameter base=1f:-1 scale=2f:1 shift=3f
LRNParameter local_size=1u:5 alpha=2f:1 beta=3f:0.75 norm_region=4NormRegion k=5f:1
MVNParameter normalize_variance=1b:true across_channels=2b eps=3f:1e-9
PoolingParameter pool=1PoolMethod kernel_size=2u stride=3u:1 pad=4u kernel_h=5u kernel_w=6u stride_h=7u stride_w=8u
 pad_h=9u pad_w=10u global_pooling=12b round_mode=13RoundMode
PowerParameter power=1f:1 scale=2f:1 shift=3f
PReLUParameter filler=1FillerParameter channel_shared=2b
ReLUParameter negative_slope=1f
ReshapeParameter shape=1BlobShape axis=2i num_axes=3i:-1
ScaleParameter axis=1i:1 num_axes=2i:1 filler=3FillerParameter bias_term=4b bias_filler=5FillerParameter
SliceParameter slice_dim=1u:1 slice_point=2*u axis=3i:1
SoftmaxParameter axis=2i:1
SwishParameter beta=1f:1
TileParameter axis=1i:1 tiles=2i
"""
_ENUMS = """
Phase TRAIN=0 TEST=1
VarianceNorm FAN_IN=0 FAN_OUT=1 AVERAGE=2
EltwiseOp PROD=0 SUM=1 MAX=2
NormRegion ACROSS_CHANNELS=0 WITHIN_CHANNEL=1
PoolMethod MAX=0 AVE=1 STOCHASTIC=2
RoundMode CEIL=0 FLOOR=1
LayerType NONE=0 ACCURACY=1 BNLL=2 CONCAT=3 CONVOLUTION=4 DATA=5 DROPOUT=6 EUCLIDEAN_LOSS=7 FLATTEN=8 HDF5_DATA=9
 HDF5_OUTPUT=10 IM2COL=11 IMAGE_DATA=12 INFOGAIN_LOSS=13 INNER_PRODUCT=14 LRN=15 MULTINOMIAL_LOGISTIC_LOSS=16
 POOLING=17 RELU=18 SIGMOID=19 SOFTMAX=20 SOFTMAX_LOSS=21 SPLIT=22 TANH=23 WINDOW_DATA=24 ELTWISE=25 POWER=26
 SIGMOID_CROSS_ENTROPY_LOSS=27 HINGE_LOSS=28 MEMORY_DATA=29 ARGMAX=30 THRESHOLD=31 DUMMY_DATA=32 SLICE=33 MVN=34
 ABSVAL=35 SILENCE=36 CONTRASTIVE_LOSS=37 EXP=38 DECONVOLUTION=39
"""
#: The numbers of descriptor.proto's FieldDescriptorProto.Type.
_TYPES = {"f": 2, "l": 3, "i": 5, "b": 8, "s": 9, "y": 12, "u": 13}
_MESSAGE, _ENUM = 11, 14


def need_protobuf(function: str) -> None:
    """ImportError with the line that installs protobuf, where it is missing."""
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        raise ImportError(f'{function} needs protobuf: pip install "fastnn[interop]"') from None


@functools.cache
def net_parameter() -> Any:
    """The class of Caffe's NetParameter."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="fastnn/caffe.proto", package="caffe", syntax="proto2")
    enums = _lines(_ENUMS)
    for name, values in enums.items():
        # Each in a message of its own: MAX is a value of two, and such names are unique where they stand.
        enum = file.message_type.add(name=f"{name}Of").enum_type.add(name=name)
        for value in values:
            key, number = value.split("=")
            enum.value.add(name=key, number=int(number))
    for name, fields in _lines(_MESSAGES).items():
        message = file.message_type.add(name=name)
        for text in fields:
            found = re.fullmatch(r"(\w+)=(\d+)(\*?)([A-Za-z]\w*)(?::(\S+))?", text)
            assert found is not None, text
            key, number, many, kind, default = found.groups()
            field = message.field.add(name=key, number=int(number), label=3 if many else 1)
            field.type = _TYPES.get(kind, _ENUM if kind in enums else _MESSAGE)
            if kind not in _TYPES:
                field.type_name = f".caffe.{kind}Of.{kind}" if kind in enums else f".caffe.{kind}"
            if default is not None:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def _lines(table: str) -> dict[str, list[str]]:
    """The table's entries by the names that begin its lines; a line that begins with a space continues one."""
    lines = table.strip().replace("\n ", " ").splitlines()
    return {name: entries for name, *entries in map(str.split, lines)}
