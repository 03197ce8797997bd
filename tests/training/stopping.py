"""A run that is told to stop at a batch of the test's choice."""

import os
import signal
import subprocess

from lightning.pytorch import Callback


class SendSignal(Callback):
    """Sends a signal when batch 4 begins, the first half of step 3 where two batches make a step.

    Args:
        name: such as "SIGTERM".
        to_group: by another process to all processes of the run, loaders included, as Slurm and terminals do.
    """

    def __init__(self, name: str, to_group: bool = False) -> None:
        self.name = name
        self.to_group = to_group

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 4 and self.to_group:
            subprocess.run(["kill", f"-{self.name.removeprefix('SIG')}", "--", f"-{os.getpgid(0)}"])
        elif batch_idx == 4:
            os.kill(os.getpid(), getattr(signal, self.name))
