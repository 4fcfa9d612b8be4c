//! Reads Spin's variables once per instance: each costs a call to the host.

use std::cell::RefCell;
use std::sync::Arc;

use http_api::Problem;
use http_api::identity::Identity;
use http_api::settings::{RawSettings, Settings};
use spin_sdk::variables;

thread_local! {
    static SETTINGS: RefCell<Option<Arc<Settings>>> = const { RefCell::new(None) };
}

/// The settings of this instance.
///
/// # Errors
/// [`Problem::Misconfigured`]; the log names the variable. Not kept, so that a corrected variable takes
/// effect.
pub async fn settings() -> Result<Arc<Settings>, Problem> {
    if let Some(settings) = SETTINGS.with_borrow(Clone::clone) {
        return Ok(settings);
    }
    let raw = RawSettings {
        redis_url: get("redis_url").await?,
        database_url: get("database_url").await?,
        redis_key_prefix: get("redis_key_prefix").await?,
        reservation_ttl: get("reservation_ttl").await?,
        redis_timeout_ms: get("redis_timeout_ms").await?,
        database_timeout_ms: get("database_timeout_ms").await?,
        key_reuse: get("key_reuse").await?,
        precondition: get("precondition").await?,
        lock_lease_ms: get("lock_lease_ms").await?,
        identity: get("identity").await?,
        identity_header: get("identity_header").await?,
        jwt_keys: get("jwt_keys").await?,
        jwt_issuer: get("jwt_issuer").await?,
        jwt_audience: get("jwt_audience").await?,
    };
    let settings = Arc::new(raw.check().map_err(|error| {
        eprintln!("{error}");
        Problem::Misconfigured
    })?);
    if matches!(settings.identity, Identity::None) {
        eprintln!("identity is none: all requests belong to one customer");
    }
    SETTINGS.set(Some(settings.clone()));
    Ok(settings)
}

async fn get(name: &'static str) -> Result<String, Problem> {
    variables::get(name).await.map_err(|_| {
        // The provider's message could contain the value.
        eprintln!("variable {name} could not be read");
        Problem::Misconfigured
    })
}
