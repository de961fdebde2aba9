"""What Berth says of itself: logs, metrics, probes."""
