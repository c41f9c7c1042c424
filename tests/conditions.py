"""Conditions of ``--where`` for hypothesis: a text, and of which rows it holds."""

from __future__ import annotations

import pandas as pd
from hypothesis import strategies as st

#: Text, and whether it holds of each row; null where that is unknown.
Asked = tuple[str, pd.Series]


def joined(children: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    """Join two conditions by and, or; or negate one. pandas' logic of three values is SQL's."""

    def join(word: str, first: Asked, second: Asked) -> Asked:
        combined = first[1] & second[1] if word == "and" else first[1] | second[1]
        return f"({first[0]}) {word} ({second[0]})", combined

    return st.one_of(
        st.builds(join, st.sampled_from(["and", "or"]), children, children),
        children.map(lambda child: (f"NOT ({child[0]})", ~child[1].astype("boolean"))),
    )
