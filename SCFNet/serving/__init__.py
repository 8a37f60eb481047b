"""The page to drop photos on, and the HTTP door for programs: what tools/serve.py runs."""
