"""Which pages of a TIFF are the specimen's pyramid, whether they are brightfield, and what the file says of bits and microns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import tifffile

from scheduling.errors import UnreadableSlide
from scheduling.slides.reading.resolution import Statement, aperio_statement, microns, ome_statement
from scheduling.slides.reading.samples import Alpha, Meaning

_MINISWHITE, _MINISBLACK, _RGB, _YCBCR = 0, 1, 2, 6
_GREY = {_MINISWHITE, _MINISBLACK}
_JPEG = {6, 7}
_STACKS = {"Z": "a z-stack", "T": "a time series"}
_ALPHA: dict[int, Alpha] = {0: "unspecified", 1: "associated", 2: "straight"}
_UNITS = {2: 25_400.0, 3: 10_000.0}
#: What tifffile finds no further structure in; reduced pages among these may be levels of any size.
_PLAIN = {"generic", "shaped", "uniform"}
_NOT_LEVELS = ("label", "macro")
#: Signs of fluorescence in OME's Channel.
_DYES = ("Fluor", "EmissionWavelength", "ExcitationWavelength")
_COLOUR = re.compile(r"|r|g|b|red|green|blue|rgb|brightfield|(?:channel|ch|c)?[ :_-]*\d+")

Pages = tuple[Any, ...]


def ome_pixels(tiff: tifffile.TiffFile) -> ElementTree.Element | None:
    """The Pixels of the first image in OME metadata; None when there are none that can be read."""
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    try:
        return ElementTree.fromstring(tiff.ome_metadata).find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def pyramid_of(tiff: tifffile.TiffFile, pixels: ElementTree.Element | None) -> list[Pages]:
    """The pages of each level, the largest first; each one page, or one for each of three colours.

    Raises UnreadableSlide for what is not one brightfield image.
    """
    if not tiff.series:
        raise UnreadableSlide("The TIFF holds no image.")
    # The first series is the specimen in every format; later ones may be label and macro.
    series = tiff.series[0]
    _refuse_stacks(series, pixels)
    levels: list[Pages] = [tuple(page for page in level.pages if page is not None) for level in series.levels]
    if series.kind in _PLAIN:
        levels += [tuple(other.pages) for other in tiff.series[1:] if _is_reduced(other)]
    base = levels[0]
    fitting = [pages for pages in levels[1:] if _is_level(pages, base)]
    return [base, *sorted(fitting, key=lambda pages: -int(pages[0].keyframe.imagewidth))]


def meaning_of(pages: Pages) -> Meaning:
    """What the samples of a level mean. Raises UnreadableSlide when they are not brightfield."""
    key = pages[0].keyframe
    if key.dtype is None or key.dtype.kind != "u" or key.dtype.itemsize > 2:
        raise UnreadableSlide(f"The image is not brightfield: its samples are {key.dtype or 'of odd bits'}, not of 8 or 16 bits.")
    if key.photometric not in {*_GREY, _RGB, _YCBCR} or (key.photometric == _YCBCR and key.compression not in _JPEG):
        name = getattr(key.photometric, "name", key.photometric)
        raise UnreadableSlide(f"The image is not brightfield in grey or RGB: its colours are {name}.")
    samples = key.samplesperpixel * len(pages)
    colours = 1 if key.photometric in _GREY and samples != 3 else 3
    if samples not in {colours, colours + 1}:
        raise UnreadableSlide(_channels(samples))
    return Meaning(colours=colours, alpha=_alpha(key, samples > colours), is_inverted=key.photometric == _MINISWHITE)


def stated_bits(key: Any, pixels: ElementTree.Element | None) -> int | None:
    """Significant bits of 16-bit samples by OME or by the tags of the largest sample; None when the file does not say."""
    text = pixels.get("SignificantBits", "") if pixels is not None else ""
    if text.isdecimal() and 8 <= int(text) <= 16:
        return int(text)
    for name in ("MaxSampleValue", "SMaxSampleValue"):
        tag = key.tags.get(name)
        values = () if tag is None else tag.value if isinstance(tag.value, tuple) else (tag.value,)
        largest = max((int(value) for value in values if isinstance(value, (int, float))), default=0)
        if 255 <= largest <= 65_535:
            return largest.bit_length()
    return None


def statements(tiff: tifffile.TiffFile, key: Any, pixels: ElementTree.Element | None) -> Iterator[Statement]:
    """What the file says of microns per pixel, the most trustworthy first."""
    yield ome_statement(pixels)
    yield aperio_statement(key.description or "")
    imagej = microns(str((tiff.imagej_metadata or {}).get("unit", ""))) if tiff.is_imagej else None
    if imagej is not None:
        yield Statement(source="imagej.unit", x=_resolution(key, "X", imagej), y=_resolution(key, "Y", imagej))
    unit = key.tags.get("ResolutionUnit")
    size = _UNITS.get(int(unit.value)) if unit is not None else None
    if size is not None:
        yield Statement(source="tiff.XResolution", x=_resolution(key, "X", size), y=_resolution(key, "Y", size))


def _refuse_stacks(series: Any, pixels: ElementTree.Element | None) -> None:
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS" and size > 1}
    channels = sizes.pop("C", 1)
    for axis, size in sizes.items():
        what = _STACKS.get(axis, "a stack of pages of one size")
        raise UnreadableSlide(f"The image is {what} ({size:,} planes), not one brightfield image; export the plane that is wanted.")
    if channels > 1 and (channels != 3 or series.kind != "ome" or _is_fluorescence(pixels)):
        raise UnreadableSlide(_channels(channels))


def _channels(count: int) -> str:
    return f"The image has {count} channels, as in fluorescence; only brightfield (grey, RGB or RGBA) can be read."


def _is_fluorescence(pixels: ElementTree.Element | None) -> bool:
    """Three separate planes may be red, green and blue, or three dyes."""
    channels = pixels.findall("{*}Channel") if pixels is not None else []
    return any(
        any(channel.get(sign) for sign in _DYES)
        or channel.get("IlluminationType") == "Epifluorescence"
        or not _COLOUR.fullmatch(channel.get("Name", "").strip().casefold())
        for channel in channels
    )


def _alpha(key: Any, has_fourth: bool) -> Alpha:
    if not has_fourth:
        return "none"
    return _ALPHA.get(int(key.extrasamples[0]), "unspecified") if key.extrasamples else "unspecified"


def _is_reduced(series: Any) -> bool:
    key = series.keyframe
    named = f"{series.name} {key.description or ''}".casefold()[:1000]
    return bool(len(series.pages) == 1 and key.is_reduced and not any(word in named for word in _NOT_LEVELS))


def _is_level(pages: Pages, base: Pages) -> bool:
    """Whether pages show the same as the base, smaller; a label or macro image has another shape."""
    key, whole = pages[0].keyframe, base[0].keyframe
    if (len(pages), key.samplesperpixel, key.dtype) != (len(base), whole.samplesperpixel, whole.dtype):
        return False
    if key.photometric != whole.photometric and {key.photometric, whole.photometric} != {_RGB, _YCBCR}:
        return False
    if not 0 < key.imagewidth < whole.imagewidth:
        return False
    downsample = whole.imagewidth / key.imagewidth
    return bool(abs(key.imagelength * downsample - whole.imagelength) <= 1.5 * downsample)


def _resolution(key: Any, axis: str, unit_um: float) -> float | None:
    tag = key.tags.get(f"{axis}Resolution")
    value: Sequence[int] = tag.value if tag is not None else (0, 1)
    return float(unit_um * value[1] / value[0]) if value[0] else None
