"""What an access token says of itself, read without its key and for diagnosis only."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


def claims_of(token: str) -> dict[str, Any]:
    """The token's claims; empty where it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        value = json.loads(body)
    except (binascii.Error, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
