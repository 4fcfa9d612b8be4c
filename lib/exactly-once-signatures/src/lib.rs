//! Verifies signatures of four algorithms for tokens (RFC 7518, RFC 8037). It is a crate of its own because generic
//! code is compiled where it is used, and this code should be small rather than fast.

use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Verifier;
use p256::elliptic_curve::point::AffineCoordinates;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};

/// The shortest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;
/// The shortest secret of an HMAC with SHA-256, in bytes (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The prefix of a SHA-256 in a signature of PKCS #1 v1.5 (RFC 8017 §9.2).
const SHA256_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// A key that verifies by exactly one algorithm. May be a secret: not `Debug`.
pub struct Key(Kind);

enum Kind {
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    P256(Box<p256::ecdsa::VerifyingKey>),
    Rsa(RsaPublicKey),
    Hmac(Vec<u8>),
}

impl Key {
    /// For EdDSA over Ed25519: a public key of 32 bytes.
    pub fn ed25519(x: &[u8]) -> Option<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(x.try_into().ok()?).ok()?;
        Some(Self(Kind::Ed25519(Box::new(key))))
    }

    /// For ES256: the coordinates of a point on P-256, 32 bytes each.
    pub fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        let point = p256::AffinePoint::from_coordinates(x.try_into().ok()?, y.try_into().ok()?).into_option()?;
        let key = p256::ecdsa::VerifyingKey::from_affine(point).ok()?;
        Some(Self(Kind::P256(Box::new(key))))
    }

    /// For RS256: modulus and exponent, big-endian. At least 2048 bits, at most 4096.
    pub fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let (n, e) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
        let key = RsaPublicKey::new(n, e).ok()?;
        (key.n().bits() >= MIN_RSA_BITS).then_some(Self(Kind::Rsa(key)))
    }

    /// For HS256: a secret of at least 32 bytes.
    pub fn hmac(secret: Vec<u8>) -> Option<Self> {
        (secret.len() >= MIN_SECRET_BYTES).then_some(Self(Kind::Hmac(secret)))
    }

    /// The algorithm's name in JOSE.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Kind::Ed25519(_) => "EdDSA",
            Kind::P256(_) => "ES256",
            Kind::Rsa(_) => "RS256",
            Kind::Hmac(_) => "HS256",
        }
    }

    /// Whether this key has signed the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Kind::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::Rsa(key) => {
                let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256_INFO) };
                key.verify(scheme, &Sha256::digest(message), signature).is_ok()
            }
            Kind::Hmac(secret) => Hmac::<Sha256>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
        }
    }
}

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
