"""Resize: longer embedding and output tables, their new rows made by a chosen strategy, on tensor-parallel shards."""
