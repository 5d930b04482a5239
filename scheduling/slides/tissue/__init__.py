"""Finds the tissue of a slide: scores each pixel of an overview, drops ink and pigment, makes the mask and its outlines.

An overview of about 8 microns a pixel enters, a mask and polygons leave.
"""
