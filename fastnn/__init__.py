"""fastnn trains and runs neural networks on CPUs."""

__version__ = "0.1.0"
