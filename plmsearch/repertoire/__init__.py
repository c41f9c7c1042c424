"""Questions asked of the rearrangements of a repertoire: which descend from one, and which are alike."""
