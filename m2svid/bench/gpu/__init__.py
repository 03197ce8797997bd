"""Everything worth knowing about a card in one run: speed, memory, limits, agreement."""
