"""The leakage audit: what could make a model look better than it is, one file a family of checks."""
