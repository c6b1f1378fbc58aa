"""What strategies need besides the token map, made from text or files before any rank starts: arrays on disk.

A kind is one file here, one line in ``stage`` and one step in ``pipeline.ROAD``; strategies name it in ``needs``.
"""
