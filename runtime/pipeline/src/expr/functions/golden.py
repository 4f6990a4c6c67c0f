#!/usr/bin/env python3
"""Writes golden.tsv: expressions and what Python's own library makes of them. Run it here: ./golden.py > golden.tsv"""
import base64, hashlib, hmac, ipaddress, random, urllib.parse, uuid
from datetime import datetime, timezone, timedelta
from zoneinfo import ZoneInfo

chance = random.Random(14)
TEXTS = ["", "a", "abc", "user@example.com", "é ü 漢字 😀", "x" * 55, "x" * 56, "x" * 63, "x" * 64, "x" * 65, "x" * 119, "x" * 200]
TEXTS += ["".join(chance.choice("abcXYZ 019-_/&?=%+.~") for _ in range(chance.randrange(1, 90))) for _ in range(20)]


def row(expression, expected):
    print(f"{expression}\t{expected}")


def q(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


for text in TEXTS:
    data = text.encode()
    for name in ("sha256", "sha512", "sha1", "md5"):
        row(f"{name}({q(text)})", hashlib.new(name, data).hexdigest())
    for key in ("", "k", "y" * 64, "z" * 65):
        row(f"hmac_sha256({q(key)}, {q(text)})", hmac.new(key.encode(), data, "sha256").hexdigest())
    row(f"uuid5('dns', {q(text)})", uuid.uuid5(uuid.NAMESPACE_DNS, text))
    row(f"uuid5('9b7a1f4e-0c55-4b1b-8a57-3f9f0e1a2b3c', {q(text)})", uuid.uuid5(uuid.UUID("9b7a1f4e-0c55-4b1b-8a57-3f9f0e1a2b3c"), text))
    row(f"base64.encode({q(text)})", base64.b64encode(data).decode())
    row(f"hex.encode({q(text)})", data.hex())
    row(f"string(hex.decode({q(data.hex())}))", text)
    row(f"url.encode({q(text)})", urllib.parse.quote(text, safe=""))
    row(f"url.decode({q(urllib.parse.quote_plus(text))})", text)

for url in ["https://a.example:8443/x/y?a=1&b=two+words&a=3#f", "http://[2001:db8::1]:80/", "/p/q?x=%C3%A9", "HTTP://U:P@Host.EXAMPLE/p", "ftp://h", "//h/p", "?q=1", "mailto:a@b.example"]:
    parts = urllib.parse.urlsplit(url)
    show = lambda part: "null" if part in (None, "") else str(part)
    row(f"url.parse({q(url)}).scheme", show(parts.scheme))
    row(f"url.parse({q(url)}).host", show(parts.hostname))
    row(f"url.parse({q(url)}).port", show(parts.port))
    row(f"url.parse({q(url)}).path", parts.path)
    for name, values in urllib.parse.parse_qs(parts.query).items():
        row(f"url.parse({q(url)}).query[{q(name)}]", values[0])
        row(f"url.parse({q(url)}).queries[{q(name)}].join('|')", "|".join(values))

ADDRESSES = ["10.1.2.3", "172.16.0.1", "172.32.0.1", "192.168.1.5", "8.8.8.8", "127.0.0.1", "0.0.0.0", "169.254.3.4", "::1", "::", "2001:db8::1", "fe80::1", "fd00::1", "2606:4700::1111"]
truth = lambda value: "true" if value else "false"
for text in ADDRESSES:
    ip = ipaddress.ip_address(text)
    row(f"ip('{text}').family()", ip.version)
    row(f"ip('{text}').isLoopback()", truth(ip.is_loopback))
    row(f"ip('{text}').isUnspecified()", truth(ip.is_unspecified))
    row(f"ip('{text}').isLinkLocalUnicast()", truth(ip.is_link_local))
    row(f"ip('{text.upper()}')", ip)
    for bits in (0, 1, 8, 23, 24, 32):
        network = ipaddress.ip_network(f"{text}/{bits}", strict=False)
        row(f"ip('{text}').mask({bits})", network.network_address)
        row(f"cidr('{text}/{bits}').masked()", network)
        other = chance.choice(ADDRESSES)
        row(f"cidr('{text}/{bits}').containsIP('{other}')", truth(ipaddress.ip_address(other) in network))
for text in ["1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", ":::", "g::", "1.2.3.4/8", " 1.2.3.4"]:
    row(f"isIP('{text}')", "false")

ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca"]
for zone in ZONES:
    for _ in range(12):
        seconds = chance.randrange(-1_000_000_000, 2_000_000_000)
        local = datetime.fromtimestamp(seconds, ZoneInfo(zone))
        row(f"format_time(timestamp({seconds}), '%Y-%m-%d %H:%M:%S %z %a %b %j %I %p', '{zone}')", local.strftime("%Y-%m-%d %H:%M:%S %z %a %b %j %I %p"))
        row(f"timestamp({seconds}).getHours('{zone}')", local.hour)
        row(f"timestamp({seconds}).getDayOfYear('{zone}')", local.timetuple().tm_yday - 1)
        row(f"timestamp({seconds}).getDayOfWeek('{zone}')", (local.weekday() + 1) % 7)
        back = local.replace(tzinfo=None).replace(tzinfo=ZoneInfo(zone))
        text = local.strftime("%d/%m/%Y %H:%M:%S")
        row(f"int(parse_time('{text}', '%d/%m/%Y %H:%M:%S', '{zone}'))", int(back.timestamp()))
for _ in range(20):
    time = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=chance.randrange(0, 10**8))
    step = chance.choice([1, 60, 300, 3600, 86400])
    start = datetime.fromtimestamp(int(time.timestamp()) // step * step, timezone.utc)
    row(f"truncate_time(timestamp('{time:%Y-%m-%dT%H:%M:%SZ}'), duration('{step}s'))", f"{start:%Y-%m-%dT%H:%M:%SZ}")
