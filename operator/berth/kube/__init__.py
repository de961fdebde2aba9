"""The Kubernetes API: connection, requests, cache."""
