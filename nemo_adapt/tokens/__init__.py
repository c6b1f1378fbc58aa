"""What several stages need to know of tokenizers and vocabularies."""
