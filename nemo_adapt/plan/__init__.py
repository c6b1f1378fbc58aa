"""What a training will need, said before anything is started: memory, time, disk. No GPU, no torch."""
