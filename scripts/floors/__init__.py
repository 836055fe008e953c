"""What scripts/floors.py is made of."""
