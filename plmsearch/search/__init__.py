"""From neighbours to hits: pure functions over arrays and records."""
