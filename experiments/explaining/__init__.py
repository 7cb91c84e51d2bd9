"""Why a model predicts what it predicts: what each modality is worth, and what counts within one."""
