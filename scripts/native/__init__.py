"""What the scripts share that read the built library."""
