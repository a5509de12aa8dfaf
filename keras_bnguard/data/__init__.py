"""The user's data: containers, samples, measurements, mode gap."""
