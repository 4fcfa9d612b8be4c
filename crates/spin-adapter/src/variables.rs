//! Reads Spin's variables once per instance: each costs a call to the host.

use std::cell::RefCell;
use std::sync::Arc;

use http_api::Problem;
use http_api::identity::Identity;
use http_api::settings::{RawSettings, Settings};
use spin_sdk::variables::{self, Error};

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
    let mut raw = RawSettings::default();
    for (name, value) in raw.variables() {
        match variables::get(name).await {
            Ok(set) => *value = set,
            // The manifest does not declare it.
            Err(Error::Undefined(_)) => {}
            Err(_) => {
                // The provider's message could contain the value.
                eprintln!("variable {name} could not be read");
                return Err(Problem::Misconfigured);
            }
        }
    }
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
