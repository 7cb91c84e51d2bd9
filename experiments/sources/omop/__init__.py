"""The OMOP common data model as a MEDS folder."""
