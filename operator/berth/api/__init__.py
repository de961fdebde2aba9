"""The resource: names, the fields of spec and status, conditions and reasons. Imports nothing of Berth."""
