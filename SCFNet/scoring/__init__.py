"""What tools/eval.py stands on: tasks, evaluation, tables, plots, cost."""
