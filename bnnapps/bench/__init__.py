"""What a training step of a layer costs, binary against float."""

from bnnapps.bench.layers import Sample, register_sample, sample_of, sizes
from bnnapps.bench.train import Figures, Skipped, bench_training, choose, device_of

__all__ = [
    "Figures",
    "Sample",
    "Skipped",
    "bench_training",
    "choose",
    "device_of",
    "register_sample",
    "sample_of",
    "sizes",
]
