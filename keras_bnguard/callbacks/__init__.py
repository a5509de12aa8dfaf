"""The callbacks: hooks of a few lines that call the stages."""
