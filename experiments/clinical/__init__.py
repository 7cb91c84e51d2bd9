"""What clinicians ask of a comparison: calibration, decisions, sets of diagnoses and groups of patients."""
