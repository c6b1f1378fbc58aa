"""Text as users have it: files, sets of them, their documents."""
