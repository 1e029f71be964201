"""Images, sounds, videos and files of OpenAI's content parts, in one form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.openai_chat import File, Link, Part
from gateway.errors import CallerError, bad_request


@dataclass(frozen=True, slots=True)
class Media:
    """An image, sound, video or file of a message: inline (`data`, base64) or by `url`."""

    mime: str
    """Lower case; empty where a URL does not tell."""
    data: str = ""
    url: str = ""
    name: str | None = None


_MIME: Mapping[str, str] = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
}
_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),")


def media_of(part: Part, where: str) -> Media | None:
    """The media of a part; None where it holds text.

    Raises:
        CallerError: the part is of a kind that no provider takes, is empty, or is neither base64 nor a web address.
    """
    if part.type == "image_url" and part.image_url is not None:
        return _linked(part.image_url, f"{where}.image_url.url")
    if part.type == "video_url" and part.video_url is not None:
        return _linked(part.video_url, f"{where}.video_url.url")
    if part.type == "input_audio" and part.input_audio is not None:
        kind = part.input_audio.format.lower()
        return Media(_MIME.get(kind, f"audio/{kind}"), data=part.input_audio.data)
    if part.type == "file" and part.file is not None:
        return _file(part.file, f"{where}.file")
    if part.type in ("text", "refusal"):
        return None
    raise bad_request(f"Content part of type '{part.type}' is unknown or lacks its value.", where)


def _linked(link: Link | str, where: str) -> Media:
    url = link if isinstance(link, str) else link.url
    if url.startswith(("http://", "https://")):
        return Media(_MIME.get(_extension(url.partition("?")[0]), ""), url=url)
    return _inline(url, where)


def _file(file: File, where: str) -> Media:
    if file.file_data is None:
        raise bad_request(
            "Files cannot be named by file_id here, since they lie at another provider; send file_data.",
            f"{where}.file_id",
        )
    if file.file_data.startswith(("http://", "https://", "data:")):
        media = _linked(file.file_data, f"{where}.file_data")
        return Media(media.mime, media.data, media.url, file.filename)
    return Media(_MIME.get(_extension(file.filename or ""), "application/pdf"), file.file_data, name=file.filename)


def _inline(url: str, where: str) -> Media:
    head = _DATA_URL.match(url)
    if head is None or ";base64" not in head[2]:
        raise _unreadable(where)
    return Media(head[1].lower() or "text/plain", data=url[head.end() :])


def _unreadable(where: str) -> CallerError:
    return bad_request("Expected an http or https URL or a base64 data URL (data:<type>;base64,…).", where)


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()
