"""Correct runs that are near to a fault: every rule is silent."""
