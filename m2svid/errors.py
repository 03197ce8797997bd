"""The one exception for what a user can mend."""


class UserError(ValueError):
    """A mistake in what the user gave: one sentence that names the file, option or value, and what to do.

    The command line shows the sentence without a traceback and exits with status 2.
    """
