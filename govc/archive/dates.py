"""Dates as git log shows them: the letters behind %a and %c.

    d  Fri Jul 14 08:25:00 2017 +0545      i  2017-07-14 08:25:00 +0545       s  2017-07-14
    D  Fri, 14 Jul 2017 08:25:00 +0545     I  2017-07-14T08:25:00+05:45       r  2 years, 3 months ago
    h  as short as can be beside now: `5 minutes ago`, `Tue 08:25`, `Tue Mar 4 08:25`, `Jul 14 2017`

Source: git-log "--date", "PRETTY FORMATS".
"""

import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def format_date(seconds: int, zone: int, form: str, now: float = 0) -> str:
    """Return a date as git shows it. `zone` is +hhmm as a number, `form` the letter of the placeholder."""
    if form == "r":
        return _relative(seconds, now)
    if form == "h":
        return _human(seconds, zone, now)
    t, zone = _broken_down(seconds, zone)
    of_day = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    day = f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}"
    weekday, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    if form == "D":
        return f"{weekday}, {t.tm_mday} {month} {t.tm_year} {of_day} {zone:+05}"
    if form == "i":
        return f"{day} {of_day} {zone:+05}"
    if form == "I":
        offset = "Z" if zone == 0 else f"{'-' if zone < 0 else '+'}{abs(zone) // 100:02}:{abs(zone) % 100:02}"
        return f"{day}T{of_day}{offset}"
    if form == "s":
        return day
    return f"{weekday} {month} {t.tm_mday} {of_day} {t.tm_year} {zone:+05}"


def _broken_down(seconds: int, zone: int) -> tuple[time.struct_time, int]:
    """Return the fields of a moment in its zone; one that there is no calendar for is the beginning of time."""
    minutes = (abs(zone) // 100 * 60 + abs(zone) % 100) * (-1 if zone < 0 else 1)
    try:
        return time.gmtime(seconds + minutes * 60), zone
    except (OverflowError, ValueError, OSError):
        return time.gmtime(0), 0


def _human(seconds: int, zone: int, now: float) -> str:
    """Leave out what the date has in common with now, which is told in the server's own zone."""
    t, zone = _broken_down(seconds, zone)
    here = time.localtime(now)
    minutes = here.tm_gmtoff // 60
    own_zone = (abs(minutes) // 60 * 100 + abs(minutes) % 60) * (-1 if minutes < 0 else 1)
    is_this_year = t.tm_year == here.tm_year
    is_this_month = is_this_year and t.tm_mon == here.tm_mon
    if is_this_month and t.tm_mday == here.tm_mday:
        return _relative(seconds, now)
    is_this_week = is_this_month and t.tm_mday < here.tm_mday < t.tm_mday + 5
    parts = [_DAYS[t.tm_wday]] if is_this_year else []
    if not is_this_week:
        parts.append(f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday}")
    parts.append(f"{t.tm_hour:02}:{t.tm_min:02}" if is_this_year else f"{t.tm_year}")
    if is_this_week and zone != own_zone:
        parts.append(f"{zone:+05}")
    return " ".join(parts)


def _relative(seconds: int, now: float) -> str:
    age = int(now) - seconds
    if age < 0:
        return "in the future"
    steps = ((1, 90, "second"), (60, 90, "minute"), (60, 36, "hour"), (24, 14, "day"))
    value = age
    for divisor, limit, unit in steps:
        value = value if divisor == 1 else (value + divisor // 2) // divisor
        if value < limit:
            return _ago(value, unit)
    if value < 70:
        return _ago((value + 3) // 7, "week")
    if value < 365:
        return _ago((value + 15) // 30, "month")
    if value < 1825:
        months = (value * 12 * 2 + 365) // (365 * 2)
        years, months = divmod(months, 12)
        if months:
            return f"{years} year{'s' * (years != 1)}, {_ago(months, 'month')}"
        return _ago(years, "year")
    return _ago((value + 183) // 365, "year")


def _ago(count: int, unit: str) -> str:
    return f"{count} {unit}{'s' * (count != 1)} ago"
