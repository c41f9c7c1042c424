"""Nearest neighbours among vectors of unit length.

`base` is the interface and the checks every index shares, `exact` the numpy oracle, `faiss_index`
the only file that imports faiss, `planner` picks one. Scores are cosine similarities in [-1, 1];
neighbours come sorted by (-score, id).
"""
