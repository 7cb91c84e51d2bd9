"""Scaling studies: how the loss falls with parameters, data and operations."""
