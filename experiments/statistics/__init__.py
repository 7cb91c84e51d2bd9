"""The statistics of comparisons: numbers in, numbers out; numpy and scipy only, no model, no file, no torch."""
