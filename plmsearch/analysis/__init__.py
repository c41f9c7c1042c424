"""Questions about all that a database holds: its clusters."""
