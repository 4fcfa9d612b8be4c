//! What a user is, how a password is kept, and how a token is signed. The routes are in `service.rs`.

#[cfg(target_arch = "wasm32")]
mod service;
pub mod tokens;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use exactly_once::members::{code, id, required, text};
use exactly_once::{Collection, Customer, Document, Fingerprint, IdempotencyKey, KeyScope, Resource, ResourceId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The names of users.
pub const COLLECTION: Collection = Collection { name: "users", one: "user", path: "/api/v1/identity/register" };

/// What a client sends to register.
pub static REGISTRATION: Resource = Resource::new(
    COLLECTION,
    &[
        required("email", code("Email", "must be an e-mail address of at most 254 ASCII characters", is_email)),
        required("password", text(8, 128)),
        required("firstName", text(1, 100)),
        required("lastName", text(1, 100)),
    ],
);

/// What a client sends to log in. Any text may be wrong.
pub static LOGIN: Resource =
    Resource::new(COLLECTION, &[required("email", text(1, 254)), required("password", text(1, 128))]);

/// What is shown of a user.
static USER: Resource = Resource::new(
    COLLECTION,
    &[
        id("id"),
        required("email", text(1, 254)),
        required("firstName", text(1, 100)),
        required("lastName", text(1, 100)),
    ],
);

/// How many log-ins of an account may fail in [`PERIOD`].
pub const MAX_ATTEMPTS: i64 = 10;
/// In seconds.
pub const PERIOD: i64 = 300;

/// A hash with the parameters of all others, of no password: so long takes it to know nobody.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keS1uYQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Argon2id with 19 MiB, two passes and one lane: the first of OWASP's recommendations that are as good as each other
/// (Password Storage Cheat Sheet).
fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(19_456, 2, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a password with a new salt, as a PHC string.
pub fn hash(password: &str) -> Option<String> {
    Some(argon2()?.hash_password(password.as_bytes()).ok()?.to_string())
}

/// Whether a password has this hash. Without a hash it takes as long.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let is_verified = |hash: &str| {
        let hash = PasswordHash::new(hash).ok()?;
        argon2()?.verify_password(password.as_bytes(), &hash).ok()
    };
    is_verified(hash.unwrap_or(NOBODY)).is_some() && hash.is_some()
}

/// The one place of an e-mail in the table of users; `None` where it cannot be one.
pub fn scope(email: &str) -> Option<KeyScope> {
    let key = IdempotencyKey::from_chars(email.to_ascii_lowercase().into_bytes())?;
    Some(KeyScope { collection: COLLECTION.name, customer: Customer::anonymous(), key })
}

/// What makes two registrations of an e-mail the same, but for the password, of which no quick hash is kept. Without a
/// key of the client's, `attempt` is different for each.
pub fn fingerprint(scope: &KeyScope, attempt: &str, registration: &Value) -> Fingerprint {
    let document = with_password(registration.clone(), Value::Null);
    Fingerprint::of(scope, attempt, COLLECTION.path, &Document::of(&document))
}

/// A registration with something else in the password's place.
pub fn with_password(mut registration: Value, password: Value) -> Value {
    if let Some(members) = registration.as_object_mut() {
        members.insert("password".to_owned(), password);
    }
    registration
}

/// Where the failed attempts of an account are counted.
pub fn slot(email: &str) -> i64 {
    let hash = Sha256::digest(email.to_ascii_lowercase());
    hash.iter().take(3).fold(0, |slot, byte| slot << 8 | i64::from(*byte))
}

/// A user without the hash of its password; `None` when the document is unreadable.
pub fn shown(id: ResourceId, document: &Value) -> Option<String> {
    let member = |name: &str| document.get(name);
    let user = json!({
        "email": member("email")?, "firstName": member("firstName")?, "lastName": member("lastName")?,
    });
    USER.represent(id, &user)
}

/// Strict enough to catch a mistake. Whether it is somebody's, only a letter to it can tell.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(fits)
    };
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&byte);
    text.len() <= 254
        && (1..=64).contains(&local.len())
        && local.bytes().all(is_local)
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_e_mail_is_one() {
        for good in ["ada@example.org", "a.b+c@sub.example.co", "Ada@Example.org"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in ["", "ada", "@example.org", "ada@", "ada@example", "a b@example.org", "a@b@c.d", "a@.org", &long] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_password_is_known_by_its_hash_and_nobody_has_one() {
        let hashed = hash("correct horse").expect("a hash");
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert_ne!(hash("correct horse"), Some(hashed.clone()), "salted");
        assert!(verify("correct horse", Some(&hashed)));
        assert!(!verify("correct house", Some(&hashed)));
        assert!(!verify("", None));
        assert!(PasswordHash::new(NOBODY).is_ok(), "it is computed, not rejected at once");
    }

    #[test]
    fn another_password_has_the_same_fingerprint_and_another_name_has_not() {
        let scope = scope("Ada@example.org").expect("a scope");
        let of = |attempt: &str, name: &str, password: &str| {
            fingerprint(&scope, attempt, &json!({"email": "Ada@example.org", "firstName": name, "password": password}))
        };
        assert_eq!(of("k", "Ada", "1"), of("k", "Ada", "2"));
        assert_ne!(of("k", "Ada", "1"), of("k", "Eve", "1"));
        assert_ne!(of("k", "Ada", "1"), of("l", "Ada", "1"));
    }
}
