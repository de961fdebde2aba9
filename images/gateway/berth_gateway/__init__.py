"""One URL for every model: finds the endpoint that serves it, and wakes the one that sleeps."""
