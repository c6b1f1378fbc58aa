"""The tokenizer stage: a base tokenizer plus new tokens of the target language."""
