"""Why a row falls short, as far as it is known: shown beside its figure when it does, and only then."""

REASONS: dict[int, str] = {}
