"""Data that strategies need besides the token map: arrays computed from text or files before any rank starts.

Each kind is one file here, one line in ``stage`` and one step in ``pipeline.ROAD``; strategies name it in ``needs``.
"""
