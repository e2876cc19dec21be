"""The pool, and where its images come from: files, data sets, tables and their cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.data.pool import Pool as Pool
    from assl_lightning.data.sources.any_dataset import load_dataset as load_dataset
    from assl_lightning.data.sources.base import PoolSource as PoolSource
    from assl_lightning.data.sources.cifar import load_cifar10 as load_cifar10
    from assl_lightning.data.sources.cifar import load_cifar100 as load_cifar100
    from assl_lightning.data.sources.digits import load_digits as load_digits
    from assl_lightning.data.sources.fashion_mnist import load_fashion_mnist as load_fashion_mnist
    from assl_lightning.data.sources.huggingface import load_huggingface as load_huggingface
    from assl_lightning.data.sources.mini_imagenet import load_mini_imagenet as load_mini_imagenet
    from assl_lightning.data.sources.own_images import load_folder as load_folder
    from assl_lightning.data.sources.own_images import load_image_folder as load_image_folder
    from assl_lightning.data.sources.own_images import load_manifest as load_manifest
    from assl_lightning.data.sources.svhn import load_svhn as load_svhn
    from assl_lightning.data.sources.torchvision_sets import load_torchvision as load_torchvision

__getattr__, __dir__ = make_face(
    __name__,
    {
        "data.pool": ["Pool"],
        "data.sources.any_dataset": ["load_dataset"],
        "data.sources.base": ["PoolSource"],
        "data.sources.cifar": ["load_cifar10", "load_cifar100"],
        "data.sources.digits": ["load_digits"],
        "data.sources.fashion_mnist": ["load_fashion_mnist"],
        "data.sources.huggingface": ["load_huggingface"],
        "data.sources.mini_imagenet": ["load_mini_imagenet"],
        "data.sources.own_images": ["load_folder", "load_image_folder", "load_manifest"],
        "data.sources.svhn": ["load_svhn"],
        "data.sources.torchvision_sets": ["load_torchvision"],
    },
)
