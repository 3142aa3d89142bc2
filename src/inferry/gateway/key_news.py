"""What gateway processes hear of keys: only what is different, since 10,000 keys take 50 ms to read on their loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from inferry.core.api_key import ApiKey
from inferry.gateway.messages import KeysChanged


class KeyNews:
    """Tells all processes what has changed since it told them last; who starts later gets all keys in its setup."""

    def __init__(self, tell: Callable[[KeysChanged], None]) -> None:
        self._tell = tell
        self._known: dict[str, ApiKey] = {}

    def on_keys(self, keys: Iterable[ApiKey]) -> None:
        """These are all keys now."""
        before, self._known = self._known, {key.prefix: key for key in keys}
        put = [key for prefix, key in self._known.items() if before.get(prefix) != key]
        gone = [prefix for prefix in before if prefix not in self._known]
        if put or gone:
            self._tell(KeysChanged(put, gone))
