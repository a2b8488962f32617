"""docs/language.md names every operator of the table."""

from pathlib import Path

from featurekit.language import ops

GUIDE = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
# Rows that a sign, a slice or a call's own syntax stands for.
SYNTAX = {"getitem", "slice", "slice.from", "slice.to", "slice.every", "format", "sorted_reverse"}
SYNTAX |= {"positive", "negative", "invert", "in", "not"}
# What `key=`, local sets and local dicts stand for.
SYNTAX |= {
    "order",
    "order.reverse",
    "place.min",
    "place.max",
    "take",
    "re.finditer.group",
    "getitem.none",
}
SYNTAX |= {f"set.{n}" for n in ("of", "add", "discard", "&", "|", "-", "^")}
SYNTAX |= {
    f"counts.{n}" for n in ("of", "put", "counted", "most.keys", "most.values", "min", "max")
}
SYNTAX |= {"str.split.spaces", "str.rsplit.spaces", "math.hypot*"}
FIELDS = {"date", "datetime", "timedelta", "zoned"}


def test_the_guide_names_every_function_and_method() -> None:
    words = set(GUIDE.replace("`", " ").replace("(", " ").replace(",", " ").split())
    missing = {
        name
        for name in ops.BY_NAME
        if name[0].isalpha()
        and name not in SYNTAX
        and name.split(".")[0] not in FIELDS
        and name.removesuffix(".group").removesuffix(".hexdigest").split(".")[-1].rstrip("?")
        not in words
    }
    assert missing == set()
