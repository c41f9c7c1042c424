"""Germline genes by residues: which V and J a variable domain is nearest to.

`genes` holds what others use; `records` a germline and the set that is shipped, `reading` files of
germlines, `scoring` and `gapped` the comparison, `species` which species it is.
"""
