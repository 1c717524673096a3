"""Reads a shared-memory file of gotheus and prints what a page would show, as JSON. Made from FORMAT.md alone.

    python3 reader.py NAME.gotheus-v2
"""

import fcntl
import json
import math
import struct
import sys
import time
import zlib

MAX64 = 2**64 - 1
SEALED_FLOAT = 0x7FF86F7468657573
LOCKS = 2**48


def number(size, data, at=0):
    """A little-endian number of a schema."""
    return int.from_bytes(data[at : at + size], "little")


def as_float(bits):
    return struct.unpack("=d", struct.pack("=Q", bits))[0]


def fields(schema):
    """Yields the fields of a schema."""
    at = 0
    while at < len(schema):
        n, length, shift = schema[at], 0, 0
        at += 1
        while True:
            length |= (schema[at] & 127) << shift
            shift += 7
            at += 1
            if schema[at - 1] < 128:
                break
        yield n, schema[at : at + length]
        at += length


class Family:
    def __init__(self, schema, help_text):
        self.help, self.help_at = help_text, 0
        self.main = []  # the schema without field 10
        self.labels, self.bounds, self.states = [], [], []
        self.unit, self.mode, self.stripes, self.native, self.sketch, self.role = "", 0, 1, None, None, 0
        self.shift = self.size = 0
        self.known = True
        self.series = {}  # by label text: words; of families with parts a list of (slot, words)
        self.declared = []  # (slot, ticket)
        for n, data in fields(schema):
            if n != 10:
                self.main.append((n, data))
            if n == 1:
                self.name = data.decode()
            elif n == 2:
                self.kind = data[0]
            elif n == 3:
                self.unit = data.decode()
            elif n == 4:
                self.labels.append(data.decode())
            elif n == 5:
                self.bounds.append(struct.unpack("<d", data)[0])
            elif n == 6:
                self.mode = data[0]
            elif n == 7:
                self.states.append(data.decode())
            elif n == 8:
                self.native = struct.unpack("<bdI", data)
            elif n == 9:
                per_doubling, slots, window = struct.unpack("<HHQ", data[:12])
                self.sketch = per_doubling, slots, window, struct.unpack("<%dd" % ((len(data) - 12) // 8), data[12:])
            elif n == 10:
                self.role, self.shift, self.size = struct.unpack("<BBI", data)
            elif n == 11:
                self.stripes = data[0]
            else:
                self.known = False

    def alike(self):
        """What families that are shown together have in common."""
        return (self.kind, self.mode, self.stripes, self.unit, self.bounds, self.states, self.native, self.sketch)


class File:
    def __init__(self, name):
        self.f = open(name, "rb")
        self.data = self.f.read()
        self.check_header()
        self.families, self.records = {}, {}
        for bucket in range(self.buckets):
            ref = self.u32(4096 + 4 * bucket)
            while ref:
                if self.u32(64 * ref + 52) % 2 == 0:  # not retired
                    self.records[ref] = self.record(64 * ref)
                ref = self.u32(64 * ref + 36)
        for kind in 1, 2, 3, 5, 4:
            for ref in sorted(self.records):
                if self.records[ref][0] == kind:
                    self.note(ref, *self.records[ref])

    def u32(self, at):
        return struct.unpack_from("=I", self.data, at)[0]

    def u64(self, at):
        return struct.unpack_from("=Q", self.data, at)[0]

    def check_header(self):
        if self.data[:8] != b"gotheus\n":
            sys.exit("no file of gotheus")
        if self.u64(16) != 0x0102030405060708:
            sys.exit("another byte order")
        if self.u32(8) != 2:
            sys.exit("version %d" % self.u32(8))
        self.buckets, self.slots = self.u32(56), self.u32(60)
        self.instances = (4096 + 4 * self.buckets + 63) // 64 * 64

    def record(self, at):
        kind = struct.unpack_from("=H", self.data, at + 4)[0]
        owner, words, text, extra = struct.unpack_from("=4I", self.data, at + 16)
        texts = at + 64 + 8 * words
        whole = self.data[at : at + 32] + self.data[texts : texts + text + extra]
        if zlib.crc32(whole) != self.u32(at + 32):
            sys.exit("the record at %d is damaged" % at)
        values = struct.unpack_from("=%dQ" % words, self.data, at + 64)
        return kind, owner, self.data[texts : texts + text], self.data[texts + text : texts + text + extra], values

    def note(self, ref, kind, owner, text, extra, words):
        if kind == 1:
            family = Family(text, extra.decode())
            if family.known:
                self.families[ref] = family
            return
        if kind == 4 and owner not in self.records:
            return  # its series is retired
        of = self.records[owner][1] if kind == 4 else owner
        family = self.families.get(of)
        if family is None:
            return
        if kind == 2:
            family.series[text.decode()] = [] if family.mode else words
        elif kind == 3 and ref > family.help_at:
            family.help, family.help_at = text.decode(), ref
        elif kind == 4:
            slot = int(text)
            series = self.records[owner][2].decode()
            live = words[-1] != 0 and words[-1] == self.u64(self.instances + 64 * slot) and self.lives(words[-1])
            family.series[series].append((slot, words[:-1], live))
        elif kind == 5:
            first = 15 * int(text or b"0")
            for i, ticket in enumerate(words):
                if ticket:
                    family.declared.append((first + i, ticket))

    def lives(self, instance):
        """Reports whether an instance holds the lock of its id."""
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, LOCKS + instance, 1, 0)
        kind = struct.unpack("hhqqi4x", fcntl.fcntl(self.f, fcntl.F_OFD_GETLK, lock))[0]
        return kind != fcntl.F_UNLCK

    def order(self, item):
        """By which families of one name are ordered."""
        ref, family = item
        live = last = 0
        for slot, ticket in family.declared:
            last = max(last, ticket)
            instance = self.u64(self.instances + 64 * slot)
            if ticket > instance > 0 and self.lives(instance):
                live = max(live, ticket)
        return live, last, ref

    def page(self):
        names = {}
        for item in self.families.items():
            names.setdefault(item[1].name, []).append(item)
        for name in sorted(names):
            list_ = sorted((i for i in names[name] if not i[1].role), key=self.order, reverse=True)
            if not list_:
                continue
            shown = list_[0][1]
            series = []
            for _, family in list_:
                if family.alike() != shown.alike():
                    continue
                aids = [f for _, f in names[name] if f.role and f.main == family.main]
                for labels in family.series:
                    series += values(family, labels, [(f, f.series[labels]) for f in aids if labels in f.series])
            yield {"name": name, "help": shown.help, "series": sorted(series, key=lambda s: s["labels"])}


def count(word):
    return word if word < 2**63 else 0


def fraction(word):
    return as_float(word) if word != SEALED_FLOAT else 0.0


def label(labels, name, value):
    """Puts a label where it belongs by its name."""
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    pairs, at = [], 0
    while at < len(labels):
        end = labels.index('="', at) + 2
        while labels[end] != '"':
            end += 2 if labels[end] == "\\" else 1
        pairs.append(labels[at : end + 1])
        at = end + 2
    pairs.append('%s="%s"' % (name, value))
    return ",".join(sorted(pairs, key=lambda p: p[: p.index('="')]))


def values(family, labels, aids):
    """Returns what is shown of a series."""
    words = family.series[labels]
    if not family.mode:
        if sealed(family, words):
            return []
        return shown(family, labels, unstriped(family, words), aids)
    parts = [(slot, w) for slot, w, live in words if live and not sealed(family, w)]
    if family.mode == 6:
        return [one for slot, w in parts for one in shown(family, label(labels, "process", str(slot)), w, [])]
    if not parts and (family.mode != 1 or all(sealed(family, w) for _, w, _ in words)):
        return []
    joined = [(w[2], as_float(w[0])) for _, w in parts if w[1] & 2]
    list_ = [v for _, v in joined]
    if not list_:
        value = 0.0
    elif family.mode in (1, 4):
        value = sum(list_) / (len(list_) if family.mode == 4 else 1)
    elif family.mode == 5:
        value = max(joined)[1]
    else:
        value = min(list_) if family.mode == 2 else max(list_)
    if family.kind == 5 and value == 0:
        return []
    return [{"labels": labels, "value": value}]


def unstriped(family, words):
    """Adds up stripes."""
    if family.stripes == 1:
        return words
    width = len(words) // family.stripes
    floats = 1 if family.kind == 1 else 0
    result = [sum(count(w) for w in words[i::width]) for i in range(width)]
    result[floats] = struct.unpack("=Q", struct.pack("=d", sum(fraction(w) for w in words[floats::width])))[0]
    return result


def sealed(family, words):
    if family.kind in (2, 5, 6, 7) or family.kind == 1 and family.mode:
        return words[0] == SEALED_FLOAT
    # Two words of each stripe tell, since all are sealed and revived together. (The float of a negative sum is more than 2**63.)
    at, width = (0 if family.kind == 3 else 1), len(words) // family.stripes
    return all(words[i + at] == SEALED_FLOAT and words[i + 1 - at] >= 2**63 for i in range(0, len(words), width))


def shown(family, labels, words, aids):
    if family.kind == 1 and not family.mode:
        value = count(words[0]) + fraction(words[1])
        return [dict({"labels": labels, "value": value, "start": count(words[2])}, **exemplars(family, words[2], 1, aids))]
    if family.kind == 3:
        return [histogram(family, labels, words, aids)]
    if family.kind == 4:
        return [summary(family, labels, words, aids)]
    value = fraction(words[0])
    if family.kind == 5 and value == 0:
        return []
    if family.kind == 6:
        return [{"labels": label(labels, family.name, s), "value": int(value) >> i & 1} for i, s in enumerate(family.states)]
    return [{"labels": labels, "value": value}]


def histogram(family, labels, words, aids):
    result = {"labels": labels, "sum": fraction(words[0])}
    at = 1
    if not family.native or family.bounds:
        total = 0
        result["buckets"] = []
        for i, bound in enumerate(family.bounds + [math.inf]):
            total += count(words[at + i])
            result["buckets"].append([str(bound), total])
        result["count"] = total
        at += len(family.bounds) + 1
    if family.native:
        at += 1
    start = 0
    if not family.mode:
        start = result["start"] = count(words[at])
        at += 1
    if family.native:
        schema, threshold, _ = family.native
        m, shift = 2 ** max(schema, 0), max(-schema, 0)
        blocks = [Block(words[at:], 32, 0, shift, m)] + [Block(w, f.size, 0, f.shift, m) for f, w in aids if f.role == 1]
        coarse = max([b.coarse for b in blocks if b.zeros or b.buckets], default=shift)
        zeros, list_ = 0, {}
        for b in blocks:
            zeros += b.united(coarse, list_, b.counts())
        result["count"] = zeros + sum(list_.values())
        result["native"] = {
            "schema": max(schema, 0) - min(coarse, b.coarsest),
            "threshold": threshold,
            "zeros": zeros,
            "positive": sorted([i, n] for (negative, i), n in list_.items() if not negative),
            "negative": sorted([i, n] for (negative, i), n in list_.items() if negative),
        }
    slots = len(family.bounds) + 1 if "buckets" in result else 10
    result.update(exemplars(family, start, slots, aids))
    return result


def summary(family, labels, words, aids):
    result = {"labels": labels, "count": count(words[0]), "sum": fraction(words[1])}
    if family.mode:
        result["quantiles"] = [[str(q), fraction(words[2 + i])] for i, q in enumerate(family.bounds)]
        return result
    result["start"] = count(words[2])
    if family.sketch:
        m, slots, window, quantiles = family.sketch
        blocks = [Block(words[3:], 32, slots, 0, m)] + [Block(w, f.size, slots, f.shift, m) for f, w in aids if f.role == 1]
        epoch = time.time_ns() // (window // slots) + 1
        points = []
        for b in blocks:
            list_ = {}
            zeros = b.united(b.coarse, list_, b.counts(b.snapshot(epoch - slots + 1)))
            points += [(0.0, zeros)] if zeros else []
            points += [((-1 if negative else 1) * b.middle(i), n) for (negative, i), n in list_.items()]
        points.sort()
        total = sum(n for _, n in points)
        result["quantiles"] = []
        for q in quantiles:
            place, value = max(math.ceil(q * total), 1), math.nan
            for value, n in points:
                place -= n
                if place <= 0:
                    break
            result["quantiles"].append([str(q), value])
    return result


class Block:
    def __init__(self, words, n, slots, shift, m):
        self.words, self.n, self.slots, self.shift, self.m = words, n, slots, shift, m
        self.coarsest = 4 + (m - 1).bit_length()
        self.coarse = max(count(words[1]), shift)
        self.zeros = count(words[0])
        keys = 2 + 2 * slots
        self.at = keys + n // 2
        self.buckets = {}  # place by (negative, index)
        for i in range(n):
            key = words[keys + i // 2] >> (32 * (i % 2)) & 0xFFFFFFFF
            if key and count(words[self.at + i]):
                self.buckets[key & 1 == 1, (key >> 1) - 2**30] = i

    def counts(self, snapshot=None):
        """Returns zeros and counts, less those of a snapshot."""
        less = lambda n, at: n - min(n, self.words[at]) if snapshot is not None else n
        zeros = less(self.zeros, 2 + self.slots + (snapshot or 0))
        snaps = self.at + self.n + (snapshot or 0) * self.n
        return zeros, {k: less(count(self.words[self.at + i]), snaps + i) for k, i in self.buckets.items()}

    def snapshot(self, oldest):
        """Returns the place of the least epoch from oldest on."""
        epochs = [(e, i) for i, e in enumerate(self.words[2 : 2 + self.slots]) if oldest <= e < 2**62 and e]
        return min(epochs)[1] if epochs else None

    def united(self, coarse, into, counts):
        """Adds counts at a coarseness and returns the zeros."""
        zeros, list_ = counts
        shift = min(coarse, self.coarsest)
        lowest = -((1074 * self.m) >> self.coarsest)  # the bucket of 2^-1074
        for (negative, i), n in list_.items():
            i = -(-i >> (shift - self.shift))
            if coarse > self.coarsest and i < lowest + coarse - self.coarsest:
                zeros += n
            elif n:
                into[negative, i] = into.get((negative, i), 0) + n
        self.read_at = shift
        return zeros

    def middle(self, i):
        bound = lambda i: 2 ** (i * 2**self.read_at / self.m)
        lower, upper = bound(i - 1), bound(i)
        return 2 * lower * upper / (lower + upper)


def exemplars(family, start, slots, aids):
    """Returns the exemplars by slot, as far as there are any."""
    best = {}
    for f, w in aids:
        if f.role != 2:
            continue
        for slot in range(slots):
            s = w[slot * (6 + f.size) :][: 6 + f.size]
            text = s[6 : 6 + (s[4] + 7) // 8]
            x = 0x6F74686575736578
            for word in s[1:5] + text:
                x = (x ^ word) * 0x9E3779B97F4A7C15 & MAX64
                x ^= x >> 32
            if s[3] == 0 or s[4] > 8 * f.size or x != s[5] or s[1] < start or start == 0 and s[1] != 0:
                continue
            if s[3] > best.get(slot, [0])[0]:
                best[slot] = [s[3], as_float(s[2]), b"".join(struct.pack("<Q", t) for t in text)[: s[4]].decode()]
    return {"exemplars": [[slot] + e for slot, e in sorted(best.items())]} if best else {}


if __name__ == "__main__":
    json.dump(list(File(sys.argv[1]).page()), sys.stdout)
