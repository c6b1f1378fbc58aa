"""The tokenizer stage: extend a base tokenizer with new tokens of the target language."""
