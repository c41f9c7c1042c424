"""Models and everything that turns residues into vectors.

`spec` names a space, `base` is the interface of a model, `registry` finds one by name, `embed`
batches, windows and pools. Only the file of a model imports its framework, on first use.
"""
