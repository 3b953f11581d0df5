"""Reads the two manifests of a title, as far as ffmpeg writes them: which files do they name?"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

_URI = re.compile(r'URI="([^"]+)"')
_NUMBER = re.compile(r"\$Number(?:%0(\d+)d)?\$")
_MPD = "{urn:mpeg:dash:schema:mpd:2011}"


def hls_playlists(master: Path) -> list[str]:
    """The media playlists a master playlist names, each once."""
    names: dict[str, None] = {}
    for line in master.read_text().splitlines():
        if line.startswith("#EXT-X-MEDIA:"):
            names |= dict.fromkeys(_URI.findall(line))
        elif line and not line.startswith("#"):
            names[line] = None
    return list(names)


def hls_files(master: Path) -> list[str]:
    """Initialisation and media segments of all the renditions, in playlist order."""
    names: list[str] = []
    for playlist in hls_playlists(master):
        for line in (master.parent / playlist).read_text().splitlines():
            if line.startswith("#EXT-X-MAP:"):
                names += _URI.findall(line)
            elif line and not line.startswith("#"):
                names.append(line)
    return names


def dash_files(manifest: Path) -> list[str]:
    """The same for DASH: SegmentTemplate with a SegmentTimeline."""
    names: list[str] = []
    for representation in ET.parse(manifest).iter(f"{_MPD}Representation"):
        template = representation.find(f"{_MPD}SegmentTemplate")
        if template is None:
            raise ValueError(f"{manifest.name}: a Representation without a SegmentTemplate")
        own = representation.attrib["id"]
        names.append(template.attrib["initialization"].replace("$RepresentationID$", own))
        media = template.attrib["media"].replace("$RepresentationID$", own)
        first = int(template.get("startNumber", "1"))
        count = sum(1 + int(entry.get("r", "0")) for entry in template.iter(f"{_MPD}S"))
        names += [_numbered(media, number) for number in range(first, first + count)]
    return names


def _numbered(media: str, number: int) -> str:
    return _NUMBER.sub(lambda match: str(number).zfill(int(match[1] or 1)), media)


def shared_files(master: Path, manifest: Path) -> list[str]:
    """The segments both manifests name. ValueError unless they name the same ones and all of them are there."""
    hls, dash = hls_files(master), dash_files(manifest)
    if set(hls) != set(dash):
        raise ValueError(f"the manifests differ in {sorted(set(hls) ^ set(dash))}")
    empty = [
        name for name in dash if not (manifest.parent / name).is_file() or not (manifest.parent / name).stat().st_size
    ]
    if empty or not dash:
        raise ValueError(f"segments that are not there: {empty or 'all'}")
    return dash
