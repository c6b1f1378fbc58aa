"""The ``probe``: short training runs that choose a resize strategy."""
