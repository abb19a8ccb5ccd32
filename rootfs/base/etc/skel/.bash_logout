# Run when a login shell ends.
