"""Keys against the traces of RFC 8448."""

from __future__ import annotations

from circumvent.wire.tls13.key_schedule import (
    KeySchedule,
    expand,
    expand_label,
    extract,
    finished,
    ticket_secret,
)
from circumvent.wire.tls13.suites import SUITES

AES = SUITES[0x1301]
SHARED = bytes.fromhex("8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d")
HELLOS = bytes.fromhex("860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8")
DONE = bytes.fromhex("9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13")
ALL = bytes.fromhex("209145a96ee8e2a122ff810047cc952684658d6049e86429426db87c54ad143d")


def test_handshake_secrets_of_section_3() -> None:
    schedule = KeySchedule(AES)
    schedule.mix(SHARED)
    client = schedule.traffic(b"c hs traffic", HELLOS).hex()
    server = schedule.traffic(b"s hs traffic", HELLOS)
    assert client == "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21"
    assert server.hex() == "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38"
    key = expand_label("sha256", server, b"key", b"", 16).hex()
    iv = expand_label("sha256", server, b"iv", b"", 12).hex()
    assert (key, iv) == ("3fce516009c21727d0f2e4e86ee403bc", "5d313eb2671276ee13000b30")


def test_later_secrets_of_section_3() -> None:
    schedule = KeySchedule(AES)
    schedule.mix(SHARED)
    schedule.mix(b"")
    for label, expected in (
        (b"c ap traffic", "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"),
        (b"s ap traffic", "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"),
        (b"exp master", "fe22f881176eda18eb8f44529e6792c50c9a3f89452f68d8ae311b4309d3cf50"),
    ):
        assert schedule.traffic(label, DONE).hex() == expected
    resumption = schedule.traffic(b"res master", ALL)
    secret = ticket_secret(AES, resumption, b"\0\0").hex()
    assert secret == "4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3"


def test_binder_of_section_4() -> None:
    secret = bytes.fromhex("4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3")
    partial = bytes.fromhex("63224b2e4573f2d3454ca84b9d009a04f6be9e05711a8396473aefa01e924a14")
    binder = finished(AES, KeySchedule(AES, secret).binder_key(), partial).hex()
    assert binder == "3add4fb2d8fdf822a0ca3cf7678ef5e88dae990141c5924d57bb6fa31b9e5f9d"


def test_hkdf_of_rfc_5869() -> None:
    salt, info = bytes(range(13)), bytes(range(0xF0, 0xFA))
    key = extract("sha256", salt, b"\x0b" * 22)
    assert expand("sha256", key, info, 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
