"""Many runs that differ in what is studied, and tables of what made a difference."""
