"""Made videos whose metrics are known."""

import cv2
import numpy as np


def texture(height, width, seed=0, smooth=3):
    """(H, W, 3) uint8 of smooth random colour with edges and corners."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), smooth)
    low, high = blurred.min(), blurred.max()
    return ((blurred - low) / (high - low) * 255).round().astype(np.uint8)


def shifted(frame, columns, rows=0):
    """The frame moved to the left by whole columns and up by whole rows, its ends brought round."""
    return np.roll(frame, (-rows, -columns), axis=(0, 1))
