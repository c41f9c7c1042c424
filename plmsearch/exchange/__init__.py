"""Records and vectors on their way from file to database, to file, and from database to database."""
