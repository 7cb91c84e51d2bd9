"""Pages of results: what stands on them, in words, tables and drawings."""
