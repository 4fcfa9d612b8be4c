//! Tokens of every algorithm, signed with keys of the RFCs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use rsa::{BigUint, Pkcs1v15Sign, RsaPrivateKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// RFC 7515 A.1.1, A.2.1, A.3.1; RFC 8037 A.1.
pub const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const N: &str = "\
    ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
    S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2\
    R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD\
    TW9gb54h4FRWyuXpoQ";
const D: &str = "\
    Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_G\
    O-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQl\
    BjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0\
    QU91p1DhOVRuOopznQ";
const P256: [&str; 3] = [
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
];
const ED25519: [&str; 2] =
    ["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"];

pub fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text).unwrap()
}

/// The public halves, each named after its algorithm.
pub fn jwks() -> Value {
    json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": ED25519[0]},
        {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": P256[0], "y": P256[1]},
        {"kty": "RSA", "kid": "RS256", "n": N, "e": "AQAB"},
        {"kty": "oct", "kid": "HS256", "k": SECRET},
        {"kty": "RSA", "use": "enc", "kid": "other", "n": N, "e": "AQAB"},
    ]})
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    match algorithm {
        "EdDSA" => {
            let seed = decode(ED25519[1]).try_into().unwrap();
            let key = ed25519_dalek::SigningKey::from_bytes(&seed);
            key.sign(message).to_bytes().to_vec()
        }
        "ES256" => {
            let key = p256::ecdsa::SigningKey::from_slice(&decode(P256[2])).unwrap();
            let signature: p256::ecdsa::Signature = key.sign(message);
            signature.to_bytes().to_vec()
        }
        "RS256" => {
            let [n, d] = [N, D].map(|text| BigUint::from_bytes_be(&decode(text)));
            let key = RsaPrivateKey::from_components(n, 65537_u32.into(), d, Vec::new()).unwrap();
            let info = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
            let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: info.as_slice().into() };
            key.sign(scheme, &Sha256::digest(message)).unwrap()
        }
        "HS256" => {
            let mac = Hmac::<Sha256>::new_from_slice(&decode(SECRET)).unwrap();
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        _ => Vec::new(),
    }
}

/// Credentials with these claims.
pub fn bearer(algorithm: &str, kid: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": kid}).to_string();
    let signed = [header, claims.to_string()].map(|part| encode(part.as_bytes())).join(".");
    format!("Bearer {signed}.{}", encode(&sign(algorithm, signed.as_bytes())))
}

/// Now, in seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Those of a valid token.
pub fn claims(customer: &str) -> Value {
    json!({"sub": customer, "exp": now() + 600, "iss": "https://issuer", "aud": ["orders"]})
}
