"""Conditions on records, as users write them: parsed into a typed tree that no layer above re-reads."""
