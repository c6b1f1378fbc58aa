"""A small world told in four languages: the data of the demo, made here, so that it needs no network."""
