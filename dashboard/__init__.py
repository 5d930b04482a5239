"""The dashboard: server-rendered pages and their live socket."""
