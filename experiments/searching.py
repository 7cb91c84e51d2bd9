"""Run a study from its configuration: data, storage, workers, live view, tracking and report."""
