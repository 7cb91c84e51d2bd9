"""One diffusion model over vectors of patients: synthetic rows, missing values, and records that do not fit."""
