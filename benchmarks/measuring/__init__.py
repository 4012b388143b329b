"""How checkpoint engines are measured: states, phases, loops, memory, caches, limits, ratios and tables."""
