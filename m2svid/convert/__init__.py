"""From a video to a stereo video: reading, depth, warping, refining, writing, resuming."""
