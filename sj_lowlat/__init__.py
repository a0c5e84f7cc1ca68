"""Low-latency spiking neural networks for object detection."""
__version__ = "0.1.0"
