"""From a film to a stereo film: depth, warp, refinement, window by window, resumable."""
