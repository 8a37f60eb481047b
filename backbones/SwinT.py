"""Swin Transformer without its head; keys equal PaddleClas's ImageNet file.

Source: Liu et al., "Swin Transformer", ICCV 2021. The published weights are for 384x384; other
sizes (multiples of 32) run by padding the feature map to whole windows and masking the padding.
"""

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

Size = Tuple[int, int]


def _windows(x: paddle.Tensor, window: int) -> paddle.Tensor:
    """[B, H, W, C] -> [B * windows, window * window, C]; H and W are multiples of the window."""
    b, h, w, c = x.shape
    x = x.reshape([b, h // window, window, w // window, window, c])
    return x.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, window * window, c])


def _unwindows(x: paddle.Tensor, window: int, size: Size) -> paddle.Tensor:
    """Invert `_windows`, for a map of `size` (H, W)."""
    h, w = size
    x = x.reshape([-1, h // window, w // window, window, window, x.shape[-1]])
    return x.transpose([0, 1, 3, 2, 4, 5]).reshape([-1, h, w, x.shape[-1]])


def _attention_mask(size: Size, window: int, shift: Size) -> np.ndarray:
    """Build the mask of attention, 0 or -100: float32 [windows, window², window²].

    Within a window of the padded and rolled map of `size` (H, W), a position attends only to
    those of its own region: not across the seam of the roll, nor to padding.
    """
    rows, columns = (_regions(side, window, step) for side, step in zip(size, shift))
    region = rows[:, None] + 4 * columns
    h, w = region.shape
    region = region.reshape(h // window, window, w // window, window)
    region = region.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return np.where(region[:, None] == region[:, :, None], 0.0, -100.0).astype("float32")


def _regions(side: int, window: int, shift: int) -> np.ndarray:
    """Label the positions along a side of the padded and rolled map: int64 [padded side].

    0 is before the last window, 1 and 2 are in it, before and behind the roll's seam, 3 is padding.
    """
    padded = -(-side // window) * window
    label = np.zeros(padded, "int64")
    label[padded - window :] = 1
    label[padded - shift :] = 2
    label[(np.arange(padded) + shift) % padded >= side] = 3
    return label


class DropPath(nn.Layer):
    """Stochastic depth: in training, drops the whole branch of a sample with chance `rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = paddle.rand([x.shape[0], 1, 1]) >= self.rate
        return x * keep.astype(x.dtype) / (1 - self.rate)


class Mlp(nn.Layer):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class WindowAttention(nn.Layer):
    """Multi-head attention within windows, with a learnt bias by relative position."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = self.create_parameter(
            [(2 * window - 1) ** 2, heads],
            default_initializer=nn.initializer.TruncatedNormal(std=0.02),
        )
        y, x = np.divmod(np.arange(window * window), window)
        index = (y[:, None] - y + window - 1) * (2 * window - 1) + x[:, None] - x + window - 1
        self.register_buffer("relative_position_index", paddle.to_tensor(index, "int64"))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: paddle.Tensor, mask: Optional[paddle.Tensor] = None) -> paddle.Tensor:
        """x [B * windows, window², C]; mask [windows, window², window²] or None."""
        b, n, c = x.shape
        q, k, v = (
            self.qkv(x).reshape([b, n, 3, self.heads, c // self.heads]).transpose([2, 0, 3, 1, 4])
        )
        attention = (q * (c // self.heads) ** -0.5) @ k.transpose([0, 1, 3, 2])
        bias = paddle.index_select(
            self.relative_position_bias_table, self.relative_position_index.flatten()
        )
        attention += bias.reshape([n, n, self.heads]).transpose([2, 0, 1])
        if mask is not None:
            windows = mask.shape[0]
            attention = attention.reshape([-1, windows, self.heads, n, n]) + mask.unsqueeze(1)
            attention = attention.reshape([b, self.heads, n, n])
        x = F.softmax(attention) @ v
        return self.proj(x.transpose([0, 2, 1, 3]).reshape([b, n, c]))


class SwinBlock(nn.Layer):
    """Attention in (shifted) windows and an MLP, each with layer norm and shortcut."""

    def __init__(
        self, dim: int, size: Size, window: int, heads: int, shifted: bool, drop: float
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        shift = self._shift(size)
        if any(shift):
            mask = paddle.to_tensor(_attention_mask(size, window, shift))
            self.register_buffer("attn_mask", mask)
        self.masks: Dict[Size, Optional[paddle.Tensor]] = {}
        self.size = size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.drop_path = DropPath(drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def _shift(self, size: Size) -> Size:
        """Return the shift: half a window along each side that has more than one window."""
        h, w = (self.window // 2 if self.shifted and side > self.window else 0 for side in size)
        return h, w

    def _mask(self, size: Size, shift: Size) -> Optional[paddle.Tensor]:
        if size == self.size:
            return self.attn_mask if any(shift) else None
        if size not in self.masks:
            mask = _attention_mask(size, self.window, shift)
            self.masks[size] = paddle.to_tensor(mask) if mask.any() else None
        return self.masks[size]

    def forward(self, x: paddle.Tensor, size: Size) -> paddle.Tensor:
        """x [B, H * W, C] for a map of `size` (H, W)."""
        h, w = size
        y = self.norm1(x).reshape([-1, h, w, x.shape[-1]])
        padded = [-(-side // self.window) * self.window for side in size]
        if padded != [h, w]:
            y = F.pad(y, [0, 0, 0, padded[0] - h, 0, padded[1] - w, 0, 0])
        shift = self._shift(size)
        if any(shift):
            y = paddle.roll(y, [-shift[0], -shift[1]], [1, 2])
        y = self.attn(_windows(y, self.window), self._mask(size, shift))
        y = _unwindows(y, self.window, (padded[0], padded[1]))
        if any(shift):
            y = paddle.roll(y, list(shift), [1, 2])
        if padded != [h, w]:
            y = y[:, :h, :w]
        x = x + self.drop_path(y.reshape([-1, h * w, x.shape[-1]]))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Layer):
    """Halves the map: four neighbours' channels, normalised, to twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias_attr=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: paddle.Tensor, size: Size) -> paddle.Tensor:
        h, w = size
        c = x.shape[-1]
        x = x.reshape([-1, h // 2, 2, w // 2, 2, c]).transpose([0, 1, 3, 4, 2, 5])
        return self.reduction(self.norm(x.reshape([-1, h * w // 4, 4 * c])))


class BasicLayer(nn.Layer):
    """One stage: `depth` blocks, every other one shifted, then the merging (but in the last)."""

    def __init__(
        self, dim: int, size: Size, window: int, heads: int, drops: Sequence[float], last: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.LayerList(
            SwinBlock(dim, size, window, heads, i % 2 == 1, drop) for i, drop in enumerate(drops)
        )
        self.downsample = None if last else PatchMerging(dim)

    def forward(self, x: paddle.Tensor, size: Size) -> paddle.Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x if self.downsample is None else self.downsample(x, size)


class PatchEmbed(nn.Layer):
    """Patches of 4x4 pixels as vectors of `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2D(3, dim, 4, 4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.norm(self.proj(x).flatten(2).transpose([0, 2, 1]))


class SwinTransformer(nn.Layer):
    """Four stages over patches of 4x4 pixels.

    forward maps [N, 3, H, W], H and W multiples of 32, to the inputs of the first three stages
    and the output of the last, at strides 4, 8, 16 and 32. As in the release the final layer norm
    is in the state dict but not on the way. Raises ValueError for other sizes.
    """

    def __init__(
        self,
        image_size: int,
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        window: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(dim)
        drops = np.linspace(0, drop_path, sum(depths)).tolist()
        self.channels = tuple(dim * 2**i for i in range(len(depths)))
        self.layers = nn.LayerList()
        for i, (dim, depth) in enumerate(zip(self.channels, depths)):
            own, drops = drops[:depth], drops[depth:]
            size = (image_size // 4 // 2**i,) * 2
            self.layers.append(BasicLayer(dim, size, window, heads[i], own, last=not drops))
        self.norm = nn.LayerNorm(self.channels[-1])

    def forward(self, x: paddle.Tensor) -> List[paddle.Tensor]:
        h, w = x.shape[2:]
        if h % 32 or w % 32:
            raise ValueError(f"Swin takes sizes that are multiples of 32, not {h}x{w}")
        x = self.patch_embed(x)
        features = []
        for i, layer in enumerate(self.layers):
            size = (h // 4 // 2**i, w // 4 // 2**i)
            y = layer(x, size)
            tap = y if layer.downsample is None else x
            features.append(tap.transpose([0, 2, 1]).reshape([-1, self.channels[i], *size]))
            x = y
        return features


def swin_base_384() -> SwinTransformer:
    """Build Swin-B, patch 4, window 12, made for 384x384: 128, 256, 512 and 1024 channels.

    Drop path rises from 0 to 0.5 in depth, as the release trains it.
    """
    return SwinTransformer(384, 128, (2, 2, 18, 2), (4, 8, 16, 32), 12, drop_path=0.5)


SwinTransformer_B = swin_base_384  # the release's name
