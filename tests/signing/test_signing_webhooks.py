"""Webhook signatures: the specification's own vector, forms of secrets, nothing shown by accident."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensesvc.signing.webhook_signature import SignatureKind, WebhookSecret, headers, new_secret


def test_the_vector_of_the_reference_libraries():
    secret = WebhookSecret(kind=SignatureKind.HMAC, raw=base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret])
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_ed25519_signs_the_same_content():
    secret = WebhookSecret(kind=SignatureKind.ED25519, raw=bytes(range(32)))
    made = headers("msg_1", 1614265330, b"{}", [secret])
    kind, _, text = made["webhook-signature"].partition(",")
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    public.verify(base64.b64decode(text, validate=True), b"msg_1.1614265330.{}")
    assert kind == "v1a"
    assert secret.public_key == "whpk_" + base64.b64encode(public.public_bytes_raw()).decode()


def test_several_secrets_are_separated_by_blanks():
    secrets = [WebhookSecret(kind=kind, raw=bytes([number]) * 32) for number in (1, 2) for kind in SignatureKind]
    parts = headers("msg_1", 1, b"{}", secrets)["webhook-signature"].split(" ")
    assert [part.partition(",")[0] for part in parts] == ["v1", "v1a", "v1", "v1a"]
    assert len(set(parts)) == 4


def test_forms_of_secrets():
    shared = new_secret(SignatureKind.HMAC, lambda size: b"\xff" * size)
    assert shared.shown == "whsec_" + base64.b64encode(b"\xff" * 32).decode()
    assert shared.public_key is None
    private = new_secret(SignatureKind.ED25519, lambda size: b"\xff" * size)
    assert private.shown is None
    assert repr(private.raw) not in repr(private)
    assert shared.shown not in repr(shared)
