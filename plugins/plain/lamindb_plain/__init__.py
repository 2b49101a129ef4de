"""Plain scripts and notebooks: which one is running, without being asked."""
