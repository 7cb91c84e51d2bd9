"""Where records come from: one module a source, each writing the one folder format."""
