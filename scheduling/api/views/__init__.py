"""Views: one method for each call of the API, each a few lines over a service or a selector."""
