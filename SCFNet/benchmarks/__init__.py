"""What tools/benchmark.py runs. Nothing else imports this room."""
