//! The examples: which packages one consists of, and where they are.

use std::path::PathBuf;

use crate::workspace;

/// The key that signs the shop's tokens on a laptop and in tests, like their other secrets: 32 zeros. A deployment has
/// its own.
pub const SIGNING_KEYS: &str = concat!(
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"local","#,
    r#""d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#
);

/// The packages that an example is built from: the one of its name, and others that it serves beside it.
pub fn packages(example: &str) -> Vec<&str> {
    match example {
        "shop" => vec!["shop", "identity", "order-by-etag", "payments", "notifications", "console"],
        example => vec![example],
    }
}

/// The folders of those packages of an example that have migrations.
pub fn migrated(example: &str) -> Vec<PathBuf> {
    let folders = packages(example).into_iter().map(folder);
    folders.filter(|folder| folder.join("migrations").is_dir()).collect()
}

/// The folder of an example.
pub fn folder(example: &str) -> PathBuf {
    workspace::root().join("showcase").join(example)
}
