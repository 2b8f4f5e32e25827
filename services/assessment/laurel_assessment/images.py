"""Images of achievements. What may be one is the same for every image in a badge: `laurel.credential.images`."""

from __future__ import annotations

from laurel.credential.images import MAX_IMAGE, BadImage, Image, from_data_uri

__all__ = ["MAX_IMAGE", "BadImage", "Image", "from_data_uri"]
