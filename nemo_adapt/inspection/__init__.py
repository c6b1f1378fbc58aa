"""``nemo-adapt inspect``: compare new rows with the base model's, in the input and the output table."""
