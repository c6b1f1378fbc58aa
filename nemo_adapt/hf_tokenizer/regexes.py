"""Split regexes of well-known byte-level tokenizers, and variants that keep combining marks with their letters."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
LETTERS, WITH_MARKS = r"\p{L}+", r"\p{L}[\p{L}\p{M}\x{200C}\x{200D}]*"
KEPT = {pattern: pattern.replace(LETTERS, WITH_MARKS) for pattern in (GPT2, LLAMA3, QWEN2)}
KEPT |= {kept: kept for kept in KEPT.values()}
"""Known split regex -> its variant that keeps marks with their letters; a variant maps to itself."""
