"""What static_proof.py and machine_code.py know of the SM100 kernels."""
