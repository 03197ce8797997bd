"""Films as files: read, cut into shots, laid out for two eyes, encoded and joined."""
