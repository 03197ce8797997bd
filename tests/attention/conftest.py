"""A transformer block of a U-Net, and inputs of three clips with 5, 0 and 2 disoccluded tokens."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock

B, T, H, W, C, D = 3, 4, 2, 5, 32, 24


@pytest.fixture
def block() -> BasicTransformerBlock:
    torch.manual_seed(0)
    return BasicTransformerBlock(C, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=D)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(B, T, H * W, C, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def context() -> torch.Tensor:
    return torch.randn(B, T, 1, D, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.full((B, T, 1, H, W), -1.0)
    mask[0, 1, 0, :, 2:4] = 0.5
    mask[0, 3, 0, 1, 4] = 1.0
    mask[2, 0, 0, 0, 0] = mask[2, 3, 0, 1, 1] = 0.1
    return mask
