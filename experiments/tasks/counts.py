"""Counts as they may be shown: small ones are not, for they may point at people."""

from __future__ import annotations

LEAST = 10


def shown(count: int) -> str:
    """Return a count as text; one from 1 to 9 only as that.

    Examples:
        >>> shown(0), shown(9), shown(10), shown(12345)
        ('0', '<10', '10', '12,345')
    """
    return f"<{LEAST}" if 0 < count < LEAST else f"{count:,}"


def share(part: int, whole: int) -> str:
    """Return a share in percent, where neither the part nor the rest is too small to be shown.

    Examples:
        >>> share(25, 100), share(3, 100), share(95, 100), share(0, 50), share(0, 0)
        ('25.0%', '', '', '0.0%', '')
    """
    small = any(0 < count < LEAST for count in (part, whole - part, whole))
    return "" if small or not whole else f"{part / whole:.1%}"
