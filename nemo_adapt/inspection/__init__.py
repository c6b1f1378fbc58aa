"""``nemo-adapt inspect``: how new rows lie among the base model's, in the input and the output table."""
