"""What can be known of a run before it begins: whether its data are whole, how long it takes, what it writes."""
