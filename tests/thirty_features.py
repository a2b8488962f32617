"""Features of the kinds that public feature repositories and Kaggle solutions are full of, in our
own words: fraud, people, retail, time, telecoms, advertising.
"""

import enum
import hashlib
import math
import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

EARTH_KM = 6371.0088
FREE_MAIL = ("gmail.com", "yahoo.com", "hotmail.com", "outlook.com", "icloud.com")
BOTS = ("bot", "crawler", "spider", "slurp")
RISK = {"GB": 0.1, "US": 0.2, "NG": 0.9, "RU": 0.8}
CATEGORY_POINTS = {"grocery": 1, "fuel": 2, "travel": 3}
AGE_BANDS = (18, 25, 35, 50, 65)
LONDON = ZoneInfo("Europe/London")
LAUNCH = datetime(2020, 1, 1, tzinfo=UTC)
PHONE = re.compile(r"^\+?[0-9][0-9 \-]{6,14}$")
MOBILE = re.compile("iphone|android|mobile", re.IGNORECASE)


class Tier(enum.StrEnum):
    GOLD = "gold"
    SILVER = "silver"


class Cyclic(NamedTuple):
    sin: float
    cos: float


def safe_ratio(part: float, whole: float, empty: float = 0.0) -> float:
    """What nearly every feature repository writes first."""
    return part / whole if whole != 0.0 else empty


def digits_only(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


# --- fraud ----------------------------------------------------------------------------------------


def velocity_ratio(spend_1h: float, spend_7d: float) -> float:
    """How the last hour compares with an average hour of the week."""
    return safe_ratio(spend_1h, spend_7d / (7 * 24), empty=-1.0)


def amount_z_score(amount: float, mean_30d: float | None, std_30d: float | None) -> float | None:
    if mean_30d is None or std_30d is None or std_30d == 0.0:
        return None
    return (amount - mean_30d) / std_30d


def haversine_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_phi = (phi2 - phi1) / 2
    half_lambda = math.radians(lon2 - lon1) / 2
    a = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, a)))


def impossible_travel(
    lat1: float, lon1: float, lat2: float, lon2: float, seconds_between: float
) -> bool:
    """Faster than an airliner since the purchase before."""
    km = haversine_km(lat1, lon1, lat2, lon2)
    if seconds_between <= 0.0:
        return km > 1.0
    return km / (seconds_between / 3600) > 900


def is_round_amount(amount: float) -> bool:
    return amount > 0.0 and amount % 50 == 0


def cents(amount: float) -> int:
    """The part after the point: prices of fraudsters end in odd cents."""
    return round((amount - math.floor(amount)) * 100)


def country_risk(country: str | None, ip_country: str | None) -> float:
    base = RISK.get(country or "", 0.5)
    if country is not None and ip_country is not None and country != ip_country:
        base += 0.3
    return min(base, 1.0)


def card_bin_bucket(card: str) -> int:
    """A stable bucket of the issuer, by the first six digits."""
    return int(hashlib.md5(card[:6].encode()).hexdigest()[:4], 16) % 100 if card else -1


def card_prefix_bucket(card: str) -> int:
    digits = digits_only(card)[:6]
    return int(digits) % 97 if len(digits) == 6 else -1


# --- people ---------------------------------------------------------------------------------------


def email_domain(email: str) -> str | None:
    name, at, domain = email.rpartition("@")
    if at == "" or name == "":
        return None
    return domain.strip().lower()


def is_free_mail(email: str) -> bool:
    return email.lower().endswith(FREE_MAIL)


def digits_in_email(email: str) -> float:
    """Share of digits before the @: generated addresses have many."""
    name = email.split("@")[0]
    return safe_ratio(len(digits_only(name)), len(name)) if name else 0.0


def device_of(user_agent: str) -> Literal["bot", "tablet", "phone", "desktop"]:
    agent = user_agent.lower()
    if any(word in agent for word in BOTS):
        return "bot"
    if "ipad" in agent or ("android" in agent and "mobile" not in agent):
        return "tablet"
    return "phone" if MOBILE.search(user_agent) else "desktop"


def browser_version(user_agent: str) -> int | None:
    found = re.search(r"(?:Chrome|Firefox|Version)/([0-9]+)", user_agent)
    if found is None:
        return None
    return int(found.group(1))


def age_in_years(born: date | None, at: datetime) -> int | None:
    if born is None or born > at.date():
        return None
    today = at.date()
    before_birthday = today.month < born.month or (
        today.month == born.month and today.day < born.day
    )
    return today.year - born.year - int(before_birthday)


def age_band(age: int | None) -> str:
    if age is None or age < 0:
        return "unknown"
    for i, bound in enumerate(AGE_BANDS):
        if age < bound:
            return f"band_{i}"
    return f"band_{len(AGE_BANDS)}"


def name_similarity(name: str, billing_name: str) -> int:
    """0 to 2: how alike two names are, without accents on the matter."""
    a, b = name.casefold().strip(), billing_name.casefold().strip()
    if a == b:
        return 2
    return 1 if a[:1] == b[:1] and (a in b or b in a) else 0


def valid_phone(phone: str | None) -> bool:
    return phone is not None and PHONE.match(phone) is not None


# --- retail ---------------------------------------------------------------------------------------


def days_since(last_order: datetime | None, at: datetime) -> float:
    """Recency; -1.0 for those who never bought."""
    if last_order is None:
        return -1.0
    return (at - last_order) / timedelta(days=1)


def rfm_segment(recency_days: float, orders_90d: int, spend_90d: float) -> str:
    score = 0
    for bound in (7.0, 30.0, 90.0):
        if 0.0 <= recency_days <= bound:
            score += 1
    score += min(orders_90d, 3) if orders_90d > 0 else 0
    match score:
        case 0:
            segment = "lost"
        case 1 | 2:
            segment = "cooling"
        case 3 | 4:
            segment = "active"
        case _:
            segment = "champion"
    return segment + ("+" if spend_90d > 1000.0 else "")


def basket_share_of_category(in_category: float, basket: float, category: str) -> float:
    points = CATEGORY_POINTS.get(category, 0)
    return round(safe_ratio(in_category, basket) * points, 4)


def discount_depth(price: float, list_price: float | None) -> float | None:
    if not list_price or list_price < price:
        return None
    return round(1 - price / list_price, 3)


def loyalty_multiplier(tier: Tier, years: int) -> float:
    base = 2.0 if tier == Tier.GOLD else 1.5 if tier == Tier.SILVER else 1.0
    return base * (1 + min(max(years, 0), 10) / 100)


def log_spend(spend: float | None) -> float:
    return math.log1p(spend) if spend is not None and spend > 0.0 else 0.0


def title_quality(title: str) -> float:
    """Of a listing: its length in words, less for shouting and for exclamation marks."""
    words = title.split()
    if not words:
        return 0.0
    shouting = 0.5 if title.isupper() else 0.0
    return min(len(words), 12) / 12 - shouting - 0.1 * title.count("!")


# --- time -----------------------------------------------------------------------------------------


def hour_cyclic(at: datetime) -> Cyclic:
    angle = 2 * math.pi * (at.hour * 60 + at.minute) / 1440
    return Cyclic(sin=math.sin(angle), cos=math.cos(angle))


def is_weekend(at: datetime) -> bool:
    return at.weekday() >= 5


def week_of_launch(at: datetime) -> int:
    return (at - LAUNCH) // timedelta(weeks=1)


def month_end_distance(at: datetime) -> int:
    """Days to the end of the month: salaries come then."""
    day = at.date()
    first = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return (first - day).days - 1


def season(at: datetime) -> str:
    return ("winter", "spring", "summer", "autumn")[at.month % 12 // 3]


def session_is_new(at: datetime, last_seen: datetime | None) -> bool:
    return last_seen is None or at - last_seen > timedelta(minutes=30)


def in_business_hours(at: datetime) -> bool:
    """Of the shop's clock, whatever summer time does to it."""
    local = at.astimezone(LONDON)
    return local.weekday() < 5 and 9 <= local.hour < 17


def local_day_part(at: datetime) -> str:
    hour = at.astimezone(ZoneInfo("America/New_York")).hour
    if hour < 6:
        return "night"
    return "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"


# --- telecoms, advertising ------------------------------------------------------------------------


def smoothed_click_rate(clicks: int, impressions: int) -> float:
    """With a prior of 1 in 50."""
    assert clicks <= impressions
    return (clicks + 1) / (impressions + 50)


def usage_trend(usage_now: float, usage_before: float) -> float:
    if (total := usage_now + usage_before) == 0.0:
        return 0.0
    return (usage_now - usage_before) / total


def url_depth(url: str) -> int:
    path = url.split("://")[-1].split("?")[0].rstrip("/")
    return path.count("/")


def query_parameter(url: str) -> str | None:
    """The campaign that a link names."""
    found = re.search(r"[?&]utm_campaign=([^&#]*)", url)
    return found.group(1).lower() if found else None


def bucket_of_amount(amount: float) -> int:
    """0 for nothing, else one more than the decimal exponent, between 1 and 6."""
    if amount <= 0.0:
        return 0
    return max(1, min(math.floor(math.log10(amount)) + 1, 6))


def spread_of_amounts(amounts: list[float]) -> float | None:
    """The largest of the last purchases against their mean."""
    if len(amounts) < 2:
        return None
    mean = sum(amounts) / len(amounts)
    return max(amounts) / mean if mean != 0.0 else None


def rising_streak(amounts: list[float]) -> int:
    """How many of the last purchases were each dearer than the one before."""
    streak = 0
    for before, after in pairwise(amounts):
        streak = streak + 1 if after > before else 0
    return streak


def repeats_of_merchant(merchants: list[str], merchant: str) -> int:
    return len([m for m in merchants if m.lower() == merchant.lower()])


def decayed_spend(amounts: list[float]) -> float:
    return sum(amount * 0.5**i for i, amount in enumerate(reversed_list(amounts)))


def reversed_list(amounts: list[float]) -> list[float]:
    return amounts[::-1]
