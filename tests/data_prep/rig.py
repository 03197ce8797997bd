"""Stereo cameras that stand askew, made by hand: the procedural world's exact views, seen through two
homographies."""

import cv2
import numpy as np

from m2svid.synthetic.world import ProceduralWorld

WIDTH, HEIGHT = 384, 320
LARGEST = 24.0  # px of disparity


def turned(roll=0.0, pitch=0.0, yaw=0.0, focal=WIDTH, down=0.0):
    """Homography of a camera that is turned by angles in degrees, and whose picture is moved down."""
    camera = np.array([[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1]])
    rotation = (
        cv2.Rodrigues(np.radians([pitch, yaw, 0.0]))[0] @ cv2.Rodrigues(np.radians([0.0, 0.0, roll]))[0]
    )
    moved = np.array([[1, 0, 0], [0, 1, down], [0, 0, 1.0]])
    return moved @ camera @ rotation @ np.linalg.inv(camera)


ASKEW = (turned(roll=1.5, pitch=-0.8), turned(roll=-1.0, pitch=0.9, yaw=0.7, down=6))


def views(seed, frames, objects=10, offset=0):
    """Row-aligned pairs of (H, W, 3) uint8 and the left views' disparities (H, W), px; `offset` is added to
    them by moving the right views."""
    world = ProceduralWorld(seed, HEIGHT, WIDTH + abs(offset), frames, objects, LARGEST)
    found = []
    for t in range(frames):
        left, right, disparity, _ = world.frame(t)
        left, right = (np.ascontiguousarray(view.permute(1, 2, 0).numpy()) for view in (left, right))
        begin = abs(offset)
        # Columns cut off the right view's left side move everything in it to the left.
        left = left[:, :WIDTH] if offset >= 0 else left[:, begin:]
        right = right[:, begin:] if offset >= 0 else right[:, :WIDTH]
        truth = disparity[0].numpy()[:, :WIDTH] if offset >= 0 else disparity[0].numpy()[:, begin:]
        found.append((left, right, truth + offset))
    return found


def seen_by(pair, homographies=ASKEW):
    """Row-aligned views as cameras that stand askew see them."""
    return tuple(
        cv2.warpPerspective(
            view, homography, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        for view, homography in zip(pair, homographies, strict=True)
    )


def true_points(disparity, homographies=ASKEW, step=16):
    """(N, 2), (N, 2): where points of the left view's grid lie in both askew views."""
    y, x = np.mgrid[step : HEIGHT - step : step, 2 * step : WIDTH - step : step]
    left = np.stack([x.ravel(), y.ravel()], 1).astype(float)
    right = left - np.stack([disparity[y, x].ravel(), np.zeros(x.size)], 1)
    return tuple(
        cv2.perspectiveTransform(points[None], homography)[0]
        for points, homography in zip((left, right), homographies, strict=True)
    )
