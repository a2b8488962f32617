"""The audit log: whatever is done to its file is found, and whatever befalls a writer loses none of
what was added."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from featurekit.errors import WriteError
from featurekit.log.audit import NOTHING, AuditLog, Entry, Fault, Head

SAID = {"at": "2026-12-01T00:00:00+00:00", "who": "ann", "host": "h", "pid": 1, "verb": "apply"}


def add(log: AuditLog, *numbers: int) -> None:
    for n in numbers:
        log.append({**SAID, "step": "done", "about": {"n": n, "text": "x" * (n % 7)}})


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path / "audit.log")
    add(made, *range(1, 13))
    return made


def entries(log: AuditLog) -> list[int]:
    return [found.about["n"] for found in log.entries() if isinstance(found, Entry)]


def faults(log: AuditLog, *kept: Head) -> list[str]:
    return [found.what for found in log.entries(kept) if isinstance(found, Fault)]


def lines(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def put(log: AuditLog, made: list[bytes]) -> None:
    log.path.write_bytes(b"".join(made))


def forged(line: bytes, **fields: object) -> bytes:
    """A line with other fields, and with the hash that it should have then."""
    data = json.dumps(json.loads(line[65:]) | fields, separators=(",", ":")).encode()
    return b"%b %b\n" % (hashlib.sha256(data).hexdigest().encode(), data)


def test_entries_are_read_as_they_were_added(log: AuditLog) -> None:
    again = AuditLog(log.path)
    add(again, 13)
    assert (entries(log), faults(log)) == (list(range(1, 14)), [])
    assert log.head() == Head.read(str(log.head()))
    assert log.head() == [e.head for e in log.entries() if isinstance(e, Entry)][-1]


def flipped(was: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(was))
    return was[:at] + bytes((was[at] ^ (1 << chance.randrange(8)),)) + was[at + 1 :]


def rearranged(was: bytes, chance: random.Random) -> bytes:
    made = was.splitlines(keepends=True)
    first, second = (chance.randrange(len(made)) for _ in range(2))
    match chance.randrange(5):
        case 0:
            del made[first]
        case 1:
            del made[min(first, second) : max(first, second)]
        case 2:
            made.insert(first, made[second])
        case 3:
            made[first], made[second] = made[second], made[first]
        case _:
            made[first] = forged(made[first], who="eve")
    return b"".join(made)


def cut(was: bytes, chance: random.Random) -> bytes:
    return was[: chance.randrange(len(was))]


@pytest.mark.parametrize("damage", [flipped, rearranged, cut])
def test_whatever_is_done_to_the_file_is_found_then_and_later(
    log: AuditLog, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    chance, was, head = random.Random(17), log.path.read_bytes(), log.head_path.read_bytes()
    for _ in range(60):
        made = damage(was, chance)
        if made == was:
            continue
        log.path.write_bytes(made)
        assert faults(log), made
        add(log, 13)  # the chain goes on, and hides nothing
        assert faults(log), made
        assert entries(log)[-1] == 13
        log.path.write_bytes(was)
        log.head_path.write_bytes(head)
    assert faults(log) == []


def test_the_place_of_each_damage_is_told(log: AuditLog) -> None:
    was = lines(log)
    for made, told in (
        ([*was[:4], was[4].replace(b"ann", b"eve"), *was[5:]], (5, "entry 5 should be was")),
        ([*was[:4], *was[5:]], (5, "entry 5 were removed here")),
        ([*was[:4], *was[7:]], (5, "entries 5 to 7 were removed here")),
        ([*was[:4], was[1], *was[4:]], (5, "entry 2 stands here behind entry 4")),
        ([*was[:4], forged(was[4], who="eve"), *was[5:]], (6, "behind another entry 5 than")),
        (was[:-1], (11, "entry 12 is missing")),
        (was[:-3], (9, "entries 10 to 12 are missing")),
        ([*was[:-1], was[-1][:-9]], (12, "entry 12 should be was changed")),
    ):  # fmt: skip
        put(log, made)
        (found,) = [f for f in log.entries() if isinstance(f, Fault)]
        assert found.line == told[0], found
        assert told[1] in found.what
        byte = sum(map(len, made[: found.line - 1]))
        assert found.byte in (byte, byte + len(made[found.line - 1])), found


def test_a_chain_of_one_s_own_is_found_by_a_head_that_was_kept(log: AuditLog) -> None:
    kept, before = log.head(), NOTHING
    assert kept is not None
    made = []
    for line in lines(log):
        made.append(forged(line, who="eve", before=before))
        before = made[-1][:64].decode()
    put(log, made)
    log.head_path.unlink()
    add(log, 13)
    assert faults(log) == []
    assert faults(log, kept) == ["entry 12 is another one than the head that was kept says"]


def test_a_lost_head_is_told_and_stays_told(log: AuditLog) -> None:
    log.head_path.unlink()
    assert [f.split(" is ")[0] for f in faults(log)] == ["audit.head"]
    add(log, 13)
    assert faults(log) == []
    *_, last = log.entries()
    assert isinstance(last, Entry)
    assert last.about == {"n": 13, "text": "x" * 6, "head": "it was not there"}


def test_what_a_dying_writer_left_is_no_entry(log: AuditLog) -> None:
    whole = log.path.read_bytes()
    for left in (b"5d", b"\0" * 40, lines(log)[0][:-1]):
        log.path.write_bytes(whole + left)
        assert faults(log) == []
        add(log, 13)
        assert (entries(log)[-1], faults(log)) == (13, [])
        whole = log.path.read_bytes()
    # It died between the line and the head.
    head = log.head_path.read_bytes()
    add(log, 14)
    log.head_path.write_bytes(head)
    assert (entries(log)[-1], faults(log)) == (14, [])
    add(log, 15)
    assert (entries(log)[-2:], faults(log)) == ([14, 15], [])


def test_processes_take_turns(tmp_path: Path) -> None:
    log, children = AuditLog(tmp_path / "state" / "audit.log"), []
    for child in range(3):
        if (pid := os.fork()) == 0:
            try:
                add(AuditLog(log.path), *range(100 * child, 100 * child + 30))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert faults(log) == []
    assert sorted(entries(log)) == [100 * c + n for c in range(3) for n in range(30)]


@pytest.mark.parametrize("room", [0, 100], ids=["none", "for half of it"])
def test_a_full_disk_is_told_and_adds_nothing(log: AuditLog, room: int) -> None:
    was = log.path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(was) + room, before[1]))
    try:
        with pytest.raises(WriteError, match=r"audit\.log cannot be written: it would be larger"):
            add(log, 13)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.path.read_bytes() == was
    add(log, 13)
    assert (entries(log), faults(log)) == (list(range(1, 14)), [])
