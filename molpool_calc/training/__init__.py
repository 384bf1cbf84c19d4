"""Training of potentials from a recipe; imported by the command line only."""
