"""Reads for the API and the dashboard. One module a noun; each enforces whose objects a user may see."""
