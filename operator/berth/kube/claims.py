"""Who holds which name at the gateway: of those who claim it the oldest, then the first by namespace and name."""

from berth.api.names import Key

Age = tuple[str, Key]


class Claims:
    """Kept as endpoints come and go: a change costs what its own names cost, and what their other claimants learn."""

    def __init__(self) -> None:
        self._claimants: dict[str, dict[Key, Age]] = {}
        self._holder: dict[str, Age] = {}
        self._names: dict[Key, tuple[str, ...]] = {}

    def put(self, key: Key, created: str, names: tuple[str, ...]) -> set[Key]:
        """What an endpoint claims from now on. Returns the others for which a holder has changed by that."""
        age, before = (created, key), self._names.get(key, ())
        gone = [name for name in before if name not in names or self._claimants[name][key] != age]
        concerned: set[Key] = set()
        for name in gone:
            concerned |= self._take(name, key)
        for name in names:
            if name in before and name not in gone:
                continue
            self._claimants.setdefault(name, {})[key] = age
            if name not in self._holder or age < self._holder[name]:
                self._holder[name] = age
                concerned |= self._claimants[name].keys()
        if names:
            self._names[key] = names
        else:
            self._names.pop(key, None)
        return concerned - {key}

    def _take(self, name: str, key: Key) -> set[Key]:
        claimants = self._claimants[name]
        del claimants[key]
        if not claimants:
            del self._claimants[name], self._holder[name]
        elif self._holder[name][1] == key:
            self._holder[name] = min(claimants.values())
            return set(claimants)
        return set()

    def held_by_others(self, key: Key) -> dict[str, Key]:
        """Of the names that an endpoint claims those that it does not get, and who has them."""
        holders = {name: self._holder[name][1] for name in self._names.get(key, ())}
        return {name: holder for name, holder in holders.items() if holder != key}
