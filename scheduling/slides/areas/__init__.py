"""Areas on a slide that people have drawn: read from GeoJSON, checked, and asked for pixels and tiles inside them.

Untrusted geometry enters and is bounded and checked before anything is computed on it.
"""
