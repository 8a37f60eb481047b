"""A photo: reading, orientation, colour, depth, resizing and writing."""
