"""The data of the demo: stories about a small world in four languages, generated here so that no network is needed."""
