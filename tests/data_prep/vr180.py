"""A 3-D scene, ray-traced to VR180 pictures and to pinhole views; nothing of the project is used.

The rig's axes: x right, y down, z forward. A rectified view's ray r points to R·r on the rig, one R an eye.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BASELINE = 0.063  # m
FAR, NEAR = 4.0, 1.2  # m, planes facing the rectified views
_WAVES = np.random.default_rng(3).uniform(-1, 1, (3, 12, 3))  # of red, green, blue


def rotation(yaw, pitch, roll):
    """Degrees; about y, then x, then z."""
    y, x, z = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


ROTATIONS = np.stack([rotation(8.5, 2.0, 1.0), rotation(7.5, 1.2, -0.5)])


def texture(points, plane, frequency):
    """Colour (..., 3) in 0..255 at points (..., 2) in m: waves of up to `frequency` cycles a radian."""
    wave = _WAVES[:, :, :2] * 2 * np.pi * frequency
    phase = _WAVES[:, :, 2] * 50 + plane
    colours = [
        sum(np.cos(points @ w + p) for w, p in zip(wave[c], phase[c], strict=True)) / 12 for c in range(3)
    ]
    return np.clip(127.5 + 127.5 * 1.2 * np.stack(colours, -1), 0, 255)


def trace(rays, eye, frequency=12.0, shift=0.0):
    """Colours and depths (..., 3), (...) seen along rays of the rectified axes; eye 0 is left.

    `shift` moves the near plane to the right, in m.
    """
    origin = np.array([BASELINE * eye, 0.0, 0.0])
    ahead = rays[..., 2] > 1e-3
    z = np.where(ahead, rays[..., 2], 1)
    hits = [origin[:2] + rays[..., :2] / z[..., None] * depth for depth in (FAR, NEAR)]
    near = ahead & (np.abs(hits[1] - [shift, 0.05]) < [0.22, 0.18]).all(-1)
    far = texture(hits[0] / FAR, 0.0, frequency)
    colours = np.where(near[..., None], texture(hits[1] / NEAR, 9.0, frequency), far)
    return np.where(ahead[..., None], colours, 0), np.where(near, NEAR, FAR)


def equirectangular(width, height, eye, bounds=(-90, 90, -90, 90), rotations=ROTATIONS, **options):
    """(height, width, 3) uint8: what one eye of the rig sees; outermost pixels lie on the bounds."""
    lon = np.radians(np.linspace(bounds[0], bounds[1], width))
    lat = np.radians(np.linspace(bounds[2], bounds[3], height))
    lon, lat = np.meshgrid(lon, lat)
    on_rig = np.stack([np.cos(lat) * np.sin(lon), np.sin(lat), np.cos(lat) * np.cos(lon)], -1)
    return trace(on_rig @ rotations[eye], eye, **options)[0].round().astype(np.uint8)


def pinhole(size, eye, fov=60.0, samples=1, **options):
    """(size, size, 3) float and depth: the rectified view, `samples`² rays a pixel averaged."""
    focal = size / 2 / np.tan(np.radians(fov / 2))
    place = (np.arange(size * samples) + 0.5) / samples - size / 2
    x, y = np.meshgrid(place / focal, place / focal)
    rays = np.stack([x, y, np.ones_like(x)], -1)
    colours, depth = trace(rays, eye, **options)
    shape = (size, samples, size, samples)
    return colours.reshape(*shape, 3).mean((1, 3)), depth.reshape(shape)[:, samples // 2, :, samples // 2]


def film(path: Path, frames, fps=Fraction(30000, 1001), crf="4"):
    """Encode (H, W, 3) uint8 frames, every one a key frame or near one."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": crf, "g": "12", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv444p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return path


def annotation(folder: Path, video_id, timestamps, bounds=(-90, 90, -90, 90), rotations=ROTATIONS, **changes):
    """The npz of a clip, as released."""
    fields = {
        "name": np.array(f"{video_id}_{timestamps[0]}"),
        "video_id": np.array(video_id),
        "timestamps": np.array(timestamps),
        "fov_bounds": np.array(bounds, np.float64),
        "rectified2rig": np.asarray(rotations),
        "camera2world": np.zeros((len(timestamps), 3, 4)),
        "track_lengths": np.zeros(3, np.int64),
    }
    fields = {name: value for name, value in (fields | changes).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{video_id}_{timestamps[0]}.npz"
    np.savez(path, **fields)
    return path
