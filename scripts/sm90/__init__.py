"""What machine_code.py knows of the Hopper kernels."""
