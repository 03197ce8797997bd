"""BiDAStereo's network, of video stereo with bidirectional alignment (J. Jing et al., "Match-Stereo-Videos",
ECCV 2024), for its published weights.

Own code; parameters have the published names, but for the optical flow network, which is torchvision's.

Shapes: T frames of one clip, H W pixels, h w of a level (1/16, 1/8 or 1/4 of them), C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large

FEATURES, HIDDEN, MEMORY = 256, 128, 48  # channels: of a view, of the recurrent state, of the motion memory
PATCH = 9  # places compared with each of the three right frames
FLOW_UPDATES = 10


class ResidualBlock(nn.Module):
    """Two convolutions beside a projection, all instance-normalised."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.InstanceNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.conv1, self.conv2):
            y = F.relu(F.instance_norm(conv(y)))
        return F.relu(self.downsample(x) + y)


class Encoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, C, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, 1), ResidualBlock(128, 128, 1))
        self.conv2 = nn.Conv2d(128, FEATURES, 1)

    def forward(self, views: Tensor) -> Tensor:
        x = F.relu(F.instance_norm(self.conv1(views)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class MotionEncoder(nn.Module):
    """Motion features from the correlations, the disparity so far, and the neighbours' memories."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(PATCH, 96, 1)
        self.convc2 = nn.Conv2d(3 * 96, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192 + 3 * MEMORY, HIDDEN - 2 + MEMORY, 3, padding=1)
        self.init_hidden_state = nn.Parameter(torch.randn(1, 1, MEMORY, 1, 1))

    def forward(
        self, memory: Tensor, flows: Flows, disparity: Tensor, correlation: Tensor
    ) -> tuple[Tensor, Tensor]:
        earlier, later = flows.neighbours(memory)
        parts = [self.convc1(part) for part in correlation.split(PATCH, dim=1)]
        seen = F.relu(self.convc2(F.gelu(torch.cat(parts, dim=1))))
        moved = F.relu(self.convf2(F.relu(self.convf1(disparity))))
        out = F.relu(self.conv(torch.cat([seen, moved, earlier, later, memory], dim=1)))
        features, memory = out.split([HIDDEN - 2, MEMORY], dim=1)
        return torch.cat([features, disparity], dim=1), memory


class SeparableGRU(nn.Module):
    """A gated recurrent unit (1, C, T, h, w) that looks along rows, then columns, then time."""

    def __init__(self) -> None:
        super().__init__()
        for axis, (size, padding) in enumerate(
            [((1, 1, 5), (0, 0, 2)), ((1, 5, 1), (0, 2, 0)), ((5, 1, 1), (2, 0, 0))], 1
        ):
            for gate in "zrq":
                conv: nn.Module = nn.Conv3d(3 * HIDDEN, HIDDEN, size, padding=padding)
                if axis == 1 and gate != "q":  # a wide look along the rows, where the disparity lies
                    wide = nn.Conv3d(3 * HIDDEN, HIDDEN, (1, 1, 15), padding=(0, 0, 7))
                    conv = nn.Sequential(wide, nn.GELU(), nn.Conv3d(HIDDEN, HIDDEN, size, padding=padding))
                self.add_module(f"conv{gate}{axis}", conv)

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        for axis in (1, 2, 3):
            update, reset, candidate = (getattr(self, f"conv{gate}{axis}") for gate in "zrq")
            both = torch.cat([state, x], dim=1)
            z, r = update(both).sigmoid(), reset(both).sigmoid()
            state = (1 - z) * state + z * candidate(torch.cat([r * state, x], dim=1)).tanh()
        return state


class FlowHead(nn.Module):
    """State -> change of the disparity, (1, 2, T, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv3d(256, 2, 3, padding=1)

    def forward(self, state: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(state)))


class UpdateBlock(nn.Module):
    """One round of refinement."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru = SeparableGRU()
        self.flow_head = FlowHead()
        self.mask = nn.Sequential(
            nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * 4**2, 1)
        )

    def forward(
        self,
        state: Tensor,
        context: Tensor,
        memory: Tensor,
        flows: Flows,
        disparity: Tensor,
        correlation: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """New state, memory, change of the disparity and weights of the upsampling; (T, ..., h, w) each."""
        motion, memory = self.encoder(memory, flows, disparity, correlation)
        over_time = (part.transpose(0, 1)[None] for part in (state, torch.cat([context, motion], dim=1)))
        state = self.gru(*over_time)
        change = self.flow_head(state)[0].transpose(0, 1)
        state = state[0].transpose(0, 1)
        return state, memory, change, 0.25 * self.mask(state)


class Flows:
    """Optical flow between neighbouring right frames at one level, (T - 1, 2, h, w) px of it each.

    Args:
        to_earlier: from each frame but the first to the one before.
        to_later: from each frame but the last to the one after.
    """

    def __init__(self, to_earlier: Tensor, to_later: Tensor) -> None:
        self._to_earlier, self._to_later = to_earlier, to_later

    def reduced(self, factor: int) -> Flows:
        """At a coarser level."""
        size = [length // factor for length in self._to_later.shape[-2:]]
        return Flows(*(_resized(flow, size) / factor for flow in (self._to_earlier, self._to_later)))

    def neighbours(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The maps (T, C, h, w) of the frame before and of the frame after, moved to each frame; its own at
        the ends of the clip."""
        earlier = torch.cat([maps[:1], _moved(maps[:-1], self._to_earlier)])
        later = torch.cat([_moved(maps[1:], self._to_later), maps[-1:]])
        return earlier, later


class BiDAStereoNetwork(nn.Module):
    """Clips in, disparity of the left views out."""

    def __init__(self) -> None:
        super().__init__()
        self.raft = nn.ModuleDict({"model": raft_large(weights=None)})
        self.fnet = Encoder()
        self.update_block = UpdateBlock()

    def forward(self, left: Tensor, right: Tensor, rounds: int = 20) -> Tensor:
        """Match a clip.

        Args:
            left: (T, 3, H, W) in [-1, 1]; T >= 2, H and W multiples of 32.
            right: like left.
            rounds: at the finest level; half as many at each of the two coarser ones.

        Returns:
            (T, H, W) px, signed: a pixel x of the left view is seen at x - d in the right view.
        """
        quarter = [length // 4 for length in left.shape[-2:]]
        flows = Flows(
            *(
                _resized(self._flow(*views), quarter) / 4
                for views in ((right[1:], right[:-1]), (right[:-1], right[1:]))
            )
        )
        left_features, right_features = self.fnet(torch.cat([left, right])).chunk(2)
        right_features = torch.cat([right_features, *flows.neighbours(right_features)])  # (3·T, C, h, w)
        state, context = left_features.split([HIDDEN, FEATURES - HIDDEN], dim=1)
        state, context = state.tanh(), context.relu()
        flow = torch.zeros_like(left_features[:, :2, ::4, ::4])  # from left to right, px of the level
        first = self.update_block.encoder.init_hidden_state[0].expand(len(left), -1, *flow.shape[-2:])
        memory = first
        for factor, count in ((4, rounds // 2), (2, rounds // 2), (1, rounds)):
            level = [length // factor for length in quarter]
            if factor < 4:
                memory = _resized(memory, level)
                flow = flow * (level[0] / flow.shape[-2])
                flow = _resized(flow, level)
            maps = [
                F.avg_pool2d(x, factor) if factor > 1 else x
                for x in (left_features, right_features, state, context)
            ]
            flow, memory = self._refined(
                maps, flow, memory, flows.reduced(factor) if factor > 1 else flows, count
            )
        return -flow[:, 0]

    def _refined(
        self, maps: list[Tensor], flow: Tensor, memory: Tensor, flows: Flows, count: int
    ) -> tuple[Tensor, Tensor]:
        """`count` rounds at one level; the flow comes back at four times its size."""
        left, right, state, context = maps
        raised = flow
        for number in range(count):
            flow = torch.cat([flow[:, :1], torch.zeros_like(flow[:, 1:])], dim=1)  # along rows only
            correlation = correlate(left, right, flow, wide=number % 2 == 0)
            state, memory, change, mask = self.update_block(state, context, memory, flows, flow, correlation)
            flow = flow + change
            raised = upsample(flow, mask)
        return raised, memory

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, 2, H, W) optical flow from one frame to another, one pair at a time to save memory."""
        raft = self.raft["model"]
        pairs = zip(first, second, strict=True)
        return torch.cat([raft(a[None], b[None], num_flow_updates=FLOW_UPDATES)[-1] for a, b in pairs])


def correlate(left: Tensor, right: Tensor, flow: Tensor, wide: bool) -> Tensor:
    """Compare each place of the left features with the places around where it is expected in the right ones.

    Args:
        left: (T, C, h, w).
        right: (3·T, C, h, w): of the frame itself, of the one before and of the one after.
        flow: (T, 2, h, w) px.
        wide: compare with 1 × 9 places, else with 3 × 3.

    Returns:
        (T, 3 · 9, h, w), mean products.
    """
    rows, columns = (0, 4) if wide else (1, 1)
    height, width = left.shape[-2:]
    found = []
    for view in right.chunk(3):
        around = F.pad(_moved(view, flow), (columns, columns, rows, rows), mode="replicate")
        for y in range(2 * rows + 1):
            for x in range(2 * columns + 1):
                found.append((left * around[..., y : y + height, x : x + width]).mean(1))
    return torch.stack(found, dim=1)


def upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Four times the size (T, 2, 4·h, 4·w) of a flow (T, 2, h, w), whose values grow with it: each fine value
    is a weighted mean of the 3 × 3 coarse ones around it, by softmax of the mask (T, 9·16, h, w)."""
    frames, _, height, width = flow.shape
    weights = mask.view(frames, 1, 9, 4, 4, height, width).softmax(dim=2)
    coarse = F.unfold(4 * flow, 3, padding=1).view(frames, 2, 9, 1, 1, height, width)
    fine = (weights * coarse).sum(dim=2)  # (T, 2, 4, 4, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(frames, 2, 4 * height, 4 * width)


def _moved(maps: Tensor, flow: Tensor) -> Tensor:
    """(N, C, h, w) looked up at each pixel plus its flow (N, 2, h, w); zero outside."""
    height, width = maps.shape[-2:]
    x = torch.arange(width, device=maps.device) + flow[:, 0]
    y = torch.arange(height, device=maps.device)[:, None] + flow[:, 1]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(maps, grid, align_corners=True)


def _resized(maps: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
