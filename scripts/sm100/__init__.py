"""What static_proof.py and machine_code.py share."""
