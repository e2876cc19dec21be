"""A small vision transformer with the feature of DINO's linear evaluation, as ALFA-Mix has it.

Dosovitskiy et al. 2021, "An image is worth 16×16 words" (the transformer); Touvron et al. 2021, "Training
data-efficient image transformers" (its small size); Caron et al. 2021, "Emerging properties in self-supervised vision
transformers" (class tokens of the last blocks as the feature, position embedding resized to the image's grid); Parvaneh
et al. 2022, ALFA-Mix (the linear embedding behind it).

Symbols: B images, T = 1 + rows · columns tokens, D token dimension, d features, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assl_lightning.base.arguments import require_integers
from assl_lightning.networks.base import FeatureNetwork

_POSITION_IMAGE_SIZE = 224  # pixels; the position embedding has one row per patch of such an image
_MLP_RATIO = 4
_NORM_EPSILON = 1e-6
_INITIAL_STD = 0.02
_HEAD_STD = 0.01


class ViTSmall(FeatureNetwork):
    """ViT-small → class tokens of the last blocks → Linear(→ embedding_dim) without a non-linearity → Linear head.

    Pre-norm blocks, GELU, biases on queries, keys and values, no dropout, trained from scratch. Images may have any
    size of at least one patch; rows and columns of pixels that do not fill a patch are not looked at. The defaults are
    those of ALFA-Mix; at 32 pixels, patches of 16 make four tokens and a class token.

    Args:
        num_classes: C.
        channels: of the images.
        patch_size: pixels, the side of a patch.
        embedding_dim: d of the linear bottleneck; 0, or the size of what goes into it, leaves it out.
        last_blocks: how many blocks give their class token to the feature, each through the shared final norm.
        token_dim: D.
        depth: blocks.
        num_heads: attention heads; must divide D.

    With 3 channels and 10 classes: 22,061,706 parameters, 21,665,664 of them in the transformer.
    """

    samples_are_independent: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        *,
        channels: int = 3,
        patch_size: int = 16,
        embedding_dim: int = 256,
        last_blocks: int = 4,
        token_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
    ) -> None:
        require_integers(
            1,
            num_classes=num_classes,
            channels=channels,
            patch_size=patch_size,
            last_blocks=last_blocks,
            token_dim=token_dim,
            depth=depth,
            num_heads=num_heads,
        )
        require_integers(0, embedding_dim=embedding_dim)
        if patch_size > _POSITION_IMAGE_SIZE:
            raise ValueError(f"patch_size must be at most {_POSITION_IMAGE_SIZE} pixels; got {patch_size}")
        if last_blocks > depth:
            raise ValueError(f"last_blocks must be at most depth, which is {depth}; got {last_blocks}")
        if token_dim % num_heads:
            raise ValueError(f"num_heads must divide token_dim, which is {token_dim}; got {num_heads}")
        trunk_dim = last_blocks * token_dim
        has_embedding = embedding_dim not in (0, trunk_dim)
        feature_dim = embedding_dim if has_embedding else trunk_dim
        head = nn.Linear(feature_dim, num_classes)
        nn.init.normal_(head.weight, std=_HEAD_STD)
        nn.init.zeros_(head.bias)
        super().__init__(head, feature_dim, num_classes)

        self.trunk = _Transformer(
            channels=channels,
            patch_size=patch_size,
            token_dim=token_dim,
            depth=depth,
            num_heads=num_heads,
            last_blocks=last_blocks,
        )
        self.embedding = nn.Sequential()  # an empty Sequential is the identity
        if has_embedding:
            self.embedding.append(nn.Linear(trunk_dim, embedding_dim))

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d)."""
        class_tokens = self.trunk(self.laid_out(images))  # (B, last_blocks · D)
        embedded: Tensor = self.embedding(class_tokens)  # (B, d)
        return embedded


class _Transformer(nn.Module):
    """Images → the class tokens of the last blocks, side by side, first of them first."""

    def __init__(
        self, *, channels: int, patch_size: int, token_dim: int, depth: int, num_heads: int, last_blocks: int
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.last_blocks = last_blocks
        self.position_side = _POSITION_IMAGE_SIZE // patch_size  # patches
        self.patches = nn.Conv2d(channels, token_dim, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, token_dim))
        self.class_position = nn.Parameter(torch.empty(1, 1, token_dim))
        self.patch_position = nn.Parameter(torch.empty(self.position_side, self.position_side, token_dim))
        self.blocks = nn.ModuleList(_Block(token_dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(token_dim, eps=_NORM_EPSILON)

        for parameter in (self.class_token, self.class_position, self.patch_position):
            nn.init.trunc_normal_(parameter, std=_INITIAL_STD)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < self.patch_size:
            raise ValueError(
                f"images must be at least one patch of {self.patch_size} pixels high and wide; got images of shape "
                f"{tuple(images.shape)}; choose a smaller patch_size"
            )
        patches = self.patches(images)  # (B, D, rows, columns)
        rows, columns = patches.shape[-2:]
        positions = resize_positions(self.patch_position, rows, columns)  # (rows, columns, D)
        patch_tokens = patches.flatten(2).transpose(1, 2) + positions.flatten(0, 1)  # (B, rows · columns, D)
        class_token = (self.class_token + self.class_position).expand(len(images), -1, -1)
        tokens = torch.cat([class_token, patch_tokens], dim=1)  # (B, T, D)

        class_tokens = []
        first_kept = len(self.blocks) - self.last_blocks
        for position, block in enumerate(self.blocks):
            tokens = block(tokens)
            if position >= first_kept:
                class_tokens.append(self.norm(tokens[:, 0]))  # (B, D)
        return torch.cat(class_tokens, dim=-1)  # (B, last_blocks · D)


class _Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm and with a residual: (B, T, D) → (B, T, D)."""

    def __init__(self, token_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(token_dim, eps=_NORM_EPSILON)
        self.attention = _Attention(token_dim, num_heads)
        self.perceptron_norm = nn.LayerNorm(token_dim, eps=_NORM_EPSILON)
        self.perceptron = nn.Sequential(
            nn.Linear(token_dim, _MLP_RATIO * token_dim), nn.GELU(), nn.Linear(_MLP_RATIO * token_dim, token_dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        mixed: Tensor = tokens + self.perceptron(self.perceptron_norm(tokens))
        return mixed


class _Attention(nn.Module):
    """Multi-head self-attention, softmax(q kᵀ / √(D / heads)) v for each head: (B, T, D) → (B, T, D)."""

    def __init__(self, token_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(token_dim, 3 * token_dim)
        self.projection = nn.Linear(token_dim, token_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        per_head = self.query_key_value(tokens).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, heads, D / heads)
        query, key, value = per_head.permute(2, 0, 3, 1, 4)  # 3 × (B, heads, T, D / heads)
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, T, D / heads)
        projected: Tensor = self.projection(attended.transpose(1, 2).flatten(2))  # (B, T, D)
        return projected


def resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Resize a position embedding (side, side, D) to (rows, columns, D), bicubically; unchanged where sizes agree.

    The factor is (rows + 0.1) / side, as in DINO and ALFA-Mix: the 0.1 keeps the rounded-down size right, and shifts
    where the curve is read. Bicubic interpolation is separable and linear, so it is done here as one matrix per axis:
    the backward pass of `interpolate(mode="bicubic")` has no deterministic CUDA kernel, that of a product has.
    """
    side = positions.shape[0]
    if (rows, columns) == tuple(positions.shape[:2]):
        return positions
    row_weights = _bicubic_matrix(side, rows, positions)
    column_weights = _bicubic_matrix(side, columns, positions)
    return torch.einsum("rs,ct,std->rcd", row_weights, column_weights, positions)


@torch.no_grad()
def _bicubic_matrix(size: int, new_size: int, like: Tensor) -> Tensor:
    """Return the matrix (new_size, size) of bicubic interpolation, of the device and type of `like`."""
    unit_columns = torch.eye(size, device=like.device).reshape(size, 1, size, 1)
    factor = (new_size + 0.1) / size
    resized = F.interpolate(unit_columns, scale_factor=(factor, 1.0), mode="bicubic")  # (size, 1, new_size, 1)
    if resized.shape[2] != new_size:
        raise RuntimeError(f"resizing {size} positions by {factor:.4f} gave {resized.shape[2]} of them, not {new_size}")
    return resized[:, 0, :, 0].T.to(like.dtype)
