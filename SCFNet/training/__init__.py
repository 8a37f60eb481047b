"""What the training loop stands on: recipe, state, log, validation, teacher, processes."""
