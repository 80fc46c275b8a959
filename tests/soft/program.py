"""What Python computes here, in a guest and natively: the same lines."""

import array
import bisect
import decimal
import fractions
import functools
import hashlib
import heapq
import itertools
import json
import math
import random
import re
import struct
import zlib


def digest(*values):
    return hashlib.sha256(repr(values).encode()).hexdigest()


def numbers():
    decimal.getcontext().prec = 120
    yield digest(decimal.Decimal(2).sqrt(), decimal.Decimal(3).ln(), decimal.Decimal(1).exp())
    yield digest(functools.reduce(lambda a, b: a + fractions.Fraction(1, b), range(1, 200), 0))
    yield digest(3 ** 4000 % 7 ** 900, math.factorial(600), math.isqrt(10 ** 400 + 7))
    values = [i * 0.37 - 11 for i in range(1, 400)]
    yield digest([getattr(math, name)(abs(x) % 0.99) for x in values
                  for name in ('sin', 'cos', 'tan', 'exp', 'log1p', 'asin', 'tanh', 'gamma', 'erf')
                  if x % 0.99 or name != 'gamma'])
    yield digest([x.hex() for x in values], [round(x, 3) for x in values], math.fsum(values))
    yield digest([float(repr(x)) == x for x in values], [int(x * 1e300) for x in values])


def packed():
    chance = random.Random(42)
    data = bytes(chance.randrange(256) for _ in range(20000))
    yield digest([hashlib.new(name, data).hexdigest()
                  for name in ('md5', 'sha1', 'sha256', 'sha512', 'sha3_256', 'blake2b')])
    yield digest(zlib.crc32(data), zlib.adler32(data), zlib.compress(data * 3, 9))
    assert zlib.decompress(zlib.compress(data, 1)) == data
    yield digest(struct.unpack('<5000f', data), struct.unpack('>2500d', data))
    yield digest(array.array('h', data).tolist()[::7], int.from_bytes(data, 'big') % (10 ** 50 + 9))


def structures():
    chance = random.Random(7)
    table = {f'k{chance.randrange(4000)}': [chance.random(), i] for i in range(12000)}
    text = json.dumps(table, sort_keys=True)
    assert json.loads(text) == table
    yield digest(text)
    yield digest(re.findall(r'"k(\d+)7": \[0\.(\d{3})', text), re.sub(r'[0-4]+', '#', text)[:9000])
    heap, row = [], []
    for i in range(6000):
        heapq.heappush(heap, chance.randrange(10 ** 6))
        bisect.insort(row, chance.randrange(10 ** 6))
    yield digest([heapq.heappop(heap) for _ in range(3000)], row, sorted(table.values()))
    yield digest(list(itertools.islice(itertools.permutations(range(8)), 0, 40000, 97)))


for number, line in enumerate(itertools.chain(numbers(), packed(), structures())):
    print('python', number, line)
