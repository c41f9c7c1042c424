"""The database directory: catalog, vector files and the writer's lock.

`repository` is the only file with SQL, `segments` the only one that knows the vector file format,
`directory` the layout and the order in which a directory comes to be. The commit rule: a segment is
written in ``tmp/``, synced, renamed and its directory synced *before* the one SQLite transaction
that makes it part of the database.
"""
