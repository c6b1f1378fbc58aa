"""Resize embedding and output tables on tensor-parallel shards, with new rows made by a chosen strategy."""
