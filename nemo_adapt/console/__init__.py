"""What commands print: tables, times, progress."""
