"""The ``probe`` stage: short training runs that choose a resize strategy."""
