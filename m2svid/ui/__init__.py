"""The local page: films are converted, and runs looked at, in a browser."""
