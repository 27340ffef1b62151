"""Settings of every process, composed from the rooms."""
