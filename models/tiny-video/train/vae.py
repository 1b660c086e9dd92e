"""AutoencoderKLWan in PyTorch, names and arithmetic of the published layout, over whole videos at once.

The published code goes through a video in pieces and keeps two frames of history at every convolution; over a whole
video the same comes out of padding in front. The first frame is a case of its own wherever time is halved or doubled.
"""

import torch
import torch.nn.functional as F
from torch import nn


class CausalConv(nn.Conv3d):
    """Sees the frames before, never those behind."""

    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__(inputs, outputs, kernel, stride)
        t, h, w = (padding,) * 3 if isinstance(padding, int) else padding
        self.around = (w, w, h, h, 2 * t, 0)

    def forward(self, x):
        return super().forward(F.pad(x, self.around))


class Norm(nn.Module):
    def __init__(self, size, image=False):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(size, 1, 1) if image else torch.ones(size, 1, 1, 1))
        self.scale = size ** 0.5

    def forward(self, x):
        return (F.normalize(x.float(), dim=1) * self.scale * self.gamma).to(x.dtype)


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = Norm(inputs), CausalConv(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = Norm(outputs), CausalConv(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = CausalConv(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


def frames(x, function):
    """`function` on every frame as a picture."""
    b, c, t, h, w = x.shape
    y = function(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.view(b, t, *y.shape[1:]).transpose(1, 2)


class Attention(nn.Module):
    """One head, within a frame."""

    def __init__(self, size):
        super().__init__()
        self.norm, self.to_qkv, self.proj = Norm(size, image=True), nn.Conv2d(size, 3 * size, 1), nn.Conv2d(size, size, 1)

    def _frame(self, x):
        n, c, h, w = x.shape
        q, k, v = self.to_qkv(self.norm(x)).view(n, 3, c, h * w).transpose(2, 3).unbind(1)
        y = (q @ k.transpose(1, 2) * c ** -0.5).softmax(-1) @ v
        return x + self.proj(y.transpose(1, 2).reshape(n, c, h, w))

    def forward(self, x):
        return frames(x, self._frame)


class Resample(nn.Module):
    def __init__(self, size, up, time):
        super().__init__()
        self.up, self.time = up, time
        if up:
            self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(size, size // 2, 3, padding=1))
            if time:
                self.time_conv = CausalConv(size, 2 * size, (3, 1, 1), padding=(1, 0, 0))
        else:
            self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(size, size, 3, stride=2))
            if time:
                self.time_conv = CausalConv(size, size, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x):
        if self.up:
            if self.time and x.shape[2] > 1:
                first, rest = x[:, :, :1], x[:, :, 1:]  # the first frame stays one, and is no history
                b, c, t, h, w = rest.shape
                rest = self.time_conv(rest).view(b, 2, c, t, h, w)
                x = torch.cat((first, torch.stack((rest[:, 0], rest[:, 1]), 3).reshape(b, c, 2 * t, h, w)), 2)
            return frames(x, lambda y: self.resample(F.interpolate(y.float(), scale_factor=2.0, mode="nearest-exact").to(y.dtype)))
        x = frames(x, lambda y: self.resample(F.pad(y, (0, 1, 0, 1))))
        if self.time and x.shape[2] > 1:
            x = torch.cat((x[:, :, :1], self.time_conv(x)), 2)
        return x


class Middle(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.resnets = nn.ModuleList((Residual(size, size), Residual(size, size)))
        self.attentions = nn.ModuleList((Attention(size),))

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        sizes = [c["base_dim"] * m for m in [1, *c["dim_mult"]]]
        self.conv_in = CausalConv(3, sizes[0], 3, padding=1)
        blocks = []
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            for j in range(c["num_res_blocks"]):
                blocks.append(Residual(b if j else a, b))
            if i + 2 < len(sizes):
                blocks.append(Resample(b, False, c["temperal_downsample"][i]))
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = Middle(sizes[-1])
        self.norm_out, self.conv_out = Norm(sizes[-1]), CausalConv(sizes[-1], 2 * c["z_dim"], 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class UpBlock(nn.Module):
    def __init__(self, inputs, outputs, count, up, time):
        super().__init__()
        self.resnets = nn.ModuleList(Residual(outputs if j else inputs, outputs) for j in range(count + 1))
        if up:
            self.upsamplers = nn.ModuleList((Resample(outputs, True, time),))

    def forward(self, x):
        for block in self.resnets:
            x = block(x)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        mult = c["dim_mult"]
        sizes = [c["base_dim"] * m for m in [mult[-1], *mult[::-1]]]
        self.conv_in = CausalConv(c["z_dim"], sizes[0], 3, padding=1)
        self.mid_block = Middle(sizes[0])
        last = len(mult) - 1
        self.up_blocks = nn.ModuleList(
            UpBlock(a // 2 if i else a, b, c["num_res_blocks"], i < last, i < last and c["temperal_downsample"][::-1][i])
            for i, (a, b) in enumerate(zip(sizes, sizes[1:])))
        self.norm_out, self.conv_out = Norm(sizes[-1]), CausalConv(sizes[-1], 3, 3, padding=1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Vae(nn.Module):
    def __init__(self, config):
        super().__init__()
        z = config["z_dim"]
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv, self.post_quant_conv = CausalConv(2 * z, 2 * z, 1), CausalConv(z, z, 1)

    def encode(self, video):
        """(mean, log variance) of [n, 3, frames, height, width] in -1..1."""
        return self.quant_conv(self.encoder(video)).chunk(2, 1)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
