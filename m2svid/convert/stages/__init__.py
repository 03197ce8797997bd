"""The stages by themselves: depth, warp and refine, with files between them.

`convert` gives the same views without these files; they are for looking at a stage, or for changing what it
gives.
"""
