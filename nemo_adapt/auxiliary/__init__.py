"""Data that strategies need besides the token map: arrays computed from text or files before any rank starts.

Each kind is one file here, one line in ``stage`` and one step in ``pipeline.STEPS``; strategies name it in ``needs``.
"""
