"""W3C VC DI ECDSA 1.0, appendix A: from the published hashes to the published signatures, byte for byte (RFC 6979).

The way from documents to hashes is for `test_node_oracle` to judge.
"""

from __future__ import annotations

import pytest

from laurel.credential import keys, multibase, multikey

SECRETS = {
    "P-256": "z42twTcNeSYcnqg1FLuSFs2bsGH3ZqbRHFmvS9XMsYhjxvHN",
    "P-384": "z2fanyY7zgwNpZGxX5fXXibvScNaUWNprHU9dKx7qpVj7mws9J8LLt4mDB5TyH2GLHWkUc",
}
PUBLIC = {
    "P-256": "zDnaepBuvsQ8cpsWrVKw8fbpGpvPeNSjVPTWoq6cRqaYzBKVP",
    "P-384": "z82LkuBieyGShVBhvtE2zoiD6Kma4tJGFtkAhxR5pfkp5QPw4LutoYWhvQCnGjdVn14kujQ",
}
# curve, combined hash of proof configuration and document, signature
CASES: dict[str, tuple[multikey.KeyType, str, str]] = {
    "ecdsa-rdfc-2019-p256": (
        "P-256",
        "3a8a522f689025727fb9d1f0fa99a618da023e8494ac74f51015d009d35abc2e03f59e5b04ab575b1172cb684f22eede"
        "72f0e9033e0b5c67d0e2506768d6ce11",
        "c6798ff29f725dfd39aa4daf60fbb423cf9baf4e157f6b49f112c201015c6e730dc877154e65cf467f8ee2b61ec86d98"
        "ed78334b1cc9f3dba2e1745f37205e92",
    ),
    "ecdsa-jcs-2019-p256": (
        "P-256",
        "fe5799489119c7fe3c528715e72bd39d2ec6b4ab345978df32e9a9312648ec2559b7cb6251b8991add1ce0bc83107e3d"
        "b9dbbab5bd2c28f687db1a03abc92f19",
        "f15c3b599eb9b3cad05df9d8e8b39a70a86375833b53743c764ac0a88c4457d60707fd7d073e03d906130631d87803f8"
        "0a9824dc9939632ba92d418181be9d16",
    ),
    "ecdsa-rdfc-2019-p384": (
        "P-384",
        "e32805a26492eac777aa7a138f6d8da3c74e0c7be7b296dcaccf97420c3b92eaad7be6449ca565e165031567f5c7cbc1"
        "1033878f36ffb458c6495fec9c8814dad5215aad131041e6667db28fef6ea718d0de0eb4546bf527746ad2bc908a4320",
        "a5999d1154a3fb5db8805fa762c8c41c1b7f40a231a5d42460d36245349771835f43fe0005295d2061be1789589c1f63"
        "85312f0e2e36709c310c77e8289587b79b29ecf7aad14ef61a1393cc2e1f93a7a354bd76bab47d558df060c6ae218975",
    ),
    "ecdsa-jcs-2019-p384": (
        "P-384",
        "83e5057817abb0c6872eafeaba1a9e53893c58eeb7414fb6d8aa3fa8c7917f7ad4792890b257c598baa17f4fbe6d183c"
        "3e0be671cc1881035d463158c80921973dab3534d4f8dfacf4ff2725a4115eb718e49d66de0e90e7365cd6062abf2259",
        "8b7462ce62db0c8ff19878c4b3561c49eb71b4a743086b6d5b0eda70ecf0afc5a03fd88eb207d66b262ed87fd200a4e8"
        "e62716e0b329c032b67726b4b0fc737a44c1cefdba2fdccb3ece74cc5845aaa93374455a726f6ee4f5f30da9427f608a",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_published_signature(name: str) -> None:
    curve, hashed, signature = CASES[name]
    kind, secret = multikey.decode_secret(SECRETS[curve])
    assert kind == curve
    assert multikey.encode_secret(kind, secret) == SECRETS[curve]
    signer = keys.EcdsaSigner(kind, secret, "did:key:x#x")
    assert signer.public_key_multibase == PUBLIC[curve]
    data = bytes.fromhex(hashed)
    assert signer.sign(data).hex() == signature
    key = multikey.decode_public(PUBLIC[curve])
    assert keys.verify_signature(key, bytes.fromhex(signature), data)
    assert not keys.verify_signature(key, bytes.fromhex(signature), data[:-1])
    with pytest.raises(multibase.MultibaseError):
        multikey.decode_public(SECRETS[curve])
