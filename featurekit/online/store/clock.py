"""The clock of a project (S3): TIME of its store's server, and never below the last stamp it gave.

Each stamp is after the one before, so that nothing has to wait for the server's time to move.

The last stamp lies in the store, under `core.keys.clock_key`. A script gives a stamp and keeps it,
in one step. So all that bears a stamp comes after the kept stamp in what a replica is sent, and a
server that takes over with a clock that is behind goes on from the last stamp.

A clock may also run ahead and come back. A stamp that it gave meanwhile could not be taken back:
everything would be stamped with it until time has caught up. So no stamp is given that lies more
than `APART_US` after both the last stamp and the clock of the machine that asks for it, and a last
stamp that lies so far ahead of both clocks is not believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from featurekit.core.types import instant
from featurekit.errors import ClocksApart
from featurekit.online.store.notes import clock_damaged

Clock = Callable[[], int]
"""Gives an instant in microseconds since the epoch."""

TOLERANCE_US = 300_000_000
"""How far ahead of the clock an arrival or an `as_of` may lie, by default."""
APART_US = 3_600_000_000
"""How far apart the clocks of the store and of a machine may be."""
_ANY = 2**62

# KEYS: the last stamp, and where a push is announced the stream of open pushes. ARGV: the time,
# empty for the server's own; the asking machine's clock; how far apart these may be; 1 to leave a
# last stamp behind that is too far ahead; and who announces a push. It returns the stamp, 0 where
# none is given, the time, the last stamp, -1 if that is no number, and the name of the
# announcement, which has the stamp, the time and the holder.
STAMP = b"""
local time = tonumber(ARGV[1])
if not time then
  local found = redis.call('TIME')
  time = found[1] * 1000000 + found[2]
end
local kept = redis.call('GET', KEYS[1]) or '0'
if not string.match(kept, '^%d+$') then
  if ARGV[4] ~= '1' then
    return {0, time, -1, ''}
  end
  kept = '0'
end
local last = tonumber(kept)
local own, apart = tonumber(ARGV[2]), tonumber(ARGV[3])
local lost = last > math.max(time, own) + apart
if lost and ARGV[4] == '1' then
  last = 0
  lost = false
end
if lost or time > math.max(last, own) + apart then
  return {0, time, last, ''}
end
local stamp, token = math.max(time, last + 1), ''
if KEYS[2] then
  token = redis.call('XADD', KEYS[2], '*', 'p', string.format('%.0f', stamp),
    't', string.format('%.0f', time), 'h', ARGV[5])
end
redis.call('SET', KEYS[1], string.format('%.0f', stamp))
return {stamp, time, last, token}
"""

# KEYS: the last stamp. ARGV: a stamp that it must not be below. It is sent with what bears the
# stamp, since a server that has just taken over may not have seen the announcement.
KEEP = b"""
if tonumber(ARGV[1]) > (tonumber(redis.call('GET', KEYS[1]) or '0') or 0) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
"""


def own_clock() -> int:
    """This machine's clock."""
    return time.time_ns() // 1000


def witness(clock: Clock | None) -> int:
    """The clock that the store's is compared with: this machine's. A clock that the caller sets is
    compared with none."""
    return own_clock() if clock is None else _ANY


def reading(time: int, last: int, own: int) -> int:
    """The clock, where the server says `time`, the last stamp is `last` and this machine says
    `own`."""
    return last if time < last <= max(time, own) + APART_US else time


def stamp_of(time: int, last: int, own: int, *, restart: bool) -> int:
    """What the script `STAMP` gives, 0 for none."""
    lost = last > max(time, own) + APART_US
    if lost and restart:
        last, lost = 0, False
    return 0 if lost or time > max(last, own) + APART_US else max(time, last + 1)


def given(stamp: int, time: int, last: int, own: int, place: Callable[[], str]) -> int:
    """The stamp that the script `STAMP` gave. ClocksApart where it gave none, DamagedNote where the
    last stamp, -1 then, cannot be read."""
    if stamp:
        return stamp
    if last < 0:
        raise clock_damaged()
    where = place()
    shown = {name: instant(at).isoformat() for name, at in
             (("time", time), ("last", last), ("own", own))}  # fmt: skip
    if last > time:
        raise ClocksApart(
            f"the last stamp that this project gave is {shown['last']}, more than an hour after "
            f"the clock of {where}, {shown['time']}, and this machine's, {shown['own']}; nothing "
            "was written. Set these clocks right; if it was the stamp that was wrong, `featurekit "
            "materialize --restart-clock` sets aside what was stamped ahead, and goes on from now "
            "(rule S3 in docs/rules.md)"
        )
    raise ClocksApart(
        f"the clock of {where} says {shown['time']}, more than an hour after this machine's, "
        f"{shown['own']}, and after the last stamp that this project gave; a stamp that is ahead "
        "cannot be taken back, so nothing was written. Set the clock right that is "
        "wrong (rule S3 in docs/rules.md)"
    )
