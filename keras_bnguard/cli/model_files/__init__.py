"""Model files from anywhere: checked, copied, and loaded without running what came with them."""
