"""Pre-training: encoders learn from records without labels, and are kept as artefacts."""
