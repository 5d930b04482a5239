"""Opens the files of a slide and gives its pixels and its resolution: one `SlideReader` over all formats, and the grid of tiles on it.

Files of strangers enter; what is damaged, too large or of no known meaning is refused with a reason. No pixel is changed here.
"""
