"""What all backends share of the interfaces: graph, flags, optimizer and step."""
