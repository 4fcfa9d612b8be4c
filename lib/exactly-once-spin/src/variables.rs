//! Reads Spin's variables once per instance: each costs a call to the host.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use exactly_once_http::Problem;
use exactly_once_http::identity::Identity;
use exactly_once_http::settings::{RawSettings, Settings};
use spin_sdk::variables::{self, Error};

thread_local! {
    static SETTINGS: RefCell<Option<Arc<Settings>>> = const { RefCell::new(None) };
    static LOGS_REQUESTS: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether `log_requests` is set; `None` before that is known. The other variables may be wrong: that is logged as
/// well.
pub fn logs_requests() -> Option<bool> {
    LOGS_REQUESTS.get()
}

/// [`logs_requests`]; asks the host where that is not known.
pub async fn read_logs_requests() -> bool {
    if let Some(known) = LOGS_REQUESTS.get() {
        return known;
    }
    let set = variables::get(LOG_REQUESTS).await;
    let logs = set.is_ok_and(|value| value == "true");
    LOGS_REQUESTS.set(Some(logs));
    logs
}

const LOG_REQUESTS: &str = "log_requests";

/// A variable; empty where the manifest does not declare it.
///
/// # Errors
/// [`Problem::Misconfigured`]; the log names the variable.
pub async fn one(name: &str) -> Result<String, Problem> {
    read(name).await.map(Option::unwrap_or_default)
}

/// `None` where the manifest does not declare the variable.
async fn read(name: &str) -> Result<Option<String>, Problem> {
    match variables::get(name).await {
        Ok(set) => Ok(Some(set)),
        Err(Error::Undefined(_)) => Ok(None),
        Err(_) => {
            // The provider's message could contain the value.
            eprintln!("variable {name} could not be read");
            Err(Problem::Misconfigured)
        }
    }
}

/// The settings of this instance.
///
/// # Errors
/// [`Problem::WrongVariables`]; the log has their rules. Not kept, so that a corrected variable takes effect.
pub async fn settings() -> Result<Arc<Settings>, Problem> {
    if let Some(settings) = SETTINGS.with_borrow(Clone::clone) {
        return Ok(settings);
    }
    let mut raw = RawSettings::default();
    for (name, value) in raw.variables() {
        if let Some(set) = read(name).await? {
            *value = set;
        }
    }
    LOGS_REQUESTS.set(Some(raw.log_requests == "true"));
    let is_local = raw.is_local();
    let settings = Arc::new(raw.check().map_err(|errors| {
        eprintln!("{errors}");
        Problem::WrongVariables(errors.0.iter().map(|variable| variable.name).collect())
    })?);
    if matches!(settings.identity, Some(Identity::None)) {
        eprintln!("identity is none: all requests belong to one customer; set identity to header or jwt for more");
    }
    if is_local {
        eprintln!("store is embedded: SQLite on this host; set redis_url and database_url for more hosts");
    }
    SETTINGS.set(Some(settings.clone()));
    Ok(settings)
}
