"""Stored JSON and arrays: typed, bounded, and no change of a byte goes unnoticed."""

import json
import random

import numpy as np
import pytest

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import NUMBER, dump_json, parse_array, parse_json, read_json
from studies.records.serialization import to_npy_bytes

SHAPE = {"name": str, "values": {"*": [NUMBER]}}
DATA = {"name": "depth", "values": {"error": [1.0, 1e-05, 3]}}


def parse(content):
    return parse_json(content, SHAPE, "result.json", "Run it again.")


@pytest.mark.parametrize("indent", [None, 1])
def test_every_flipped_bit_is_found(indent):
    content = dump_json(DATA, indent)
    assert parse(content) == DATA
    for position in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            with pytest.raises(DamagedFileError, match=r"^result\.json cannot be used: .* Run it again\.$"):
                parse(bytes(changed))


def test_files_of_earlier_versions_have_no_checksum_and_are_read():
    assert parse(json.dumps(DATA).encode()) == DATA


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"[]", "it holds a list instead of an object"),
        (b"null", "it holds null"),
        (b'"x"', 'it holds "x"'),
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "can't decode"),
        (b'{"name": "a", "values": []}', "values is a list; expected an object"),
        (b'{"name": 1, "values": {}}', "name is 1; expected text"),
        (b'{"name": "a", "values": {"x": [true]}}', r"values\.x\[0\] is true"),
        (b'{"name": "a"}', "it lacks values"),
        (b'{"name": "a", "values": {}, "more": 1}', "unknown entry 'more'"),
        (b'{"name": "a", "values": {"x": [1' + b"0" * 400 + b"]}}", "an integer of 401 digits"),
        (b'{"name": "a", "values": {"x": [1e999]}}', "out of range"),
        (b"[" * 100_000, "recursion"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "more than 32 levels"),
    ],
)
def test_content_of_another_form_is_refused_with_its_reason(content, reason):
    with pytest.raises(DamagedFileError, match=reason):
        parse(content)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(DamagedFileError, match="Is a directory"):
        read_json(tmp_path, SHAPE, "Delete it.")


def test_a_forged_header_is_refused_before_anything_is_allocated():
    array = np.arange(10, dtype=np.uint16)
    content = to_npy_bytes(array)
    assert (parse_array(content, np.uint16, "p.npy", "") == array).all()
    forged = content.replace(b"(10,), ", b"(999999999999,), "[:17])
    for changed in (forged, content[:-1], content[:20], b"", content.replace(b"<u2", b"|O\x20")):
        with pytest.raises(DamagedFileError, match=r"p\.npy cannot be used"):
            parse_array(changed, np.uint16, "p.npy", "")


def test_random_damage_to_an_array_never_raises_anything_else():
    content = to_npy_bytes(np.arange(100, dtype=np.uint16))
    chance = random.Random(0)
    read, refused = [], []
    for _ in range(500):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            read.append(parse_array(bytes(changed), np.uint16, "p.npy", ""))
        except DamagedFileError as error:
            refused.append(str(error.file))
    assert len(refused) > 100
    assert set(refused) == {"p.npy"}
    assert len(read) > 100  # the damage is in the numbers, which only a checksum protects
    assert {(array.dtype.str, array.ndim) for array in read} == {("<u2", 1)}
    assert all(len(array) <= 100 for array in read)
