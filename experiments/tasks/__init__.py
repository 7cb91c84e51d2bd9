"""Clinical tasks by name: who is predicted, when and what, and what may not leak; labels from a folder's events."""
