//! The variables of the component, checked.

use std::fmt;
use std::time::Duration;

use exactly_once::condition::Precondition;
use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};

use crate::cors::Origins;
use crate::identity::{Identity, KeySet, TokenRules};

/// The variables in `spin.toml`, as the component uses them. Holds secrets: not `Debug`.
pub struct Settings {
    /// What keeps the resources.
    pub store: Store,
    /// The prefix of every name in Redis. Deployments that share a Redis need different ones.
    pub redis_key_prefix: String,
    /// How long Redis keeps a record. Whole milliseconds, at least one.
    pub reservation_ttl: Duration,
    /// How long a request may wait for Redis in all.
    pub redis_timeout: Duration,
    /// How long a request may wait for Postgres, or SQLite, in all.
    pub database_timeout: Duration,
    /// How retries are answered.
    pub replay_policy: ReplayPolicy,
    /// What a request for a new resource must have.
    pub precondition: Precondition,
    /// The lease of the lock of a conditional creation.
    pub lock_lease: Duration,
    /// How customers are identified, if that is chosen.
    pub identity: Option<Identity>,
    /// What opens the feed; empty where it is off.
    pub events_token: String,
    /// The origins whose pages may use the API, if any.
    pub cors_origins: Option<Origins>,
    /// Whether each request is logged.
    pub log_requests: bool,
}

/// What keeps the resources.
pub enum Store {
    /// Postgres, with Redis for the records of keys.
    Servers {
        /// Where Redis is; may carry a password.
        redis_url: String,
        /// Where Postgres is; may carry a password.
        database_url: String,
    },
    /// The host's own SQLite, for one host.
    Embedded,
}

impl Settings {
    /// How long a statement may wait for the locks of other transactions: shorter than the request waits for the statement.
    /// One that its request has abandoned would go on waiting on a connection that another request gets.
    pub fn lock_timeout(&self) -> Duration {
        self.database_timeout * 2 / 5
    }

    /// How customers are identified. Only a component that asks needs the variable: one may identify customers in a way
    /// of its own.
    ///
    /// # Errors
    /// It has not been chosen. No choice is safe by default: "none" would make all customers one.
    pub fn identity(&self) -> Result<&Identity, SettingError> {
        self.identity.as_ref().ok_or(IDENTITY)
    }
}

const IDENTITY: SettingError = SettingError {
    variable: "identity",
    rule: "must be chosen: \"none\" (all requests belong to one customer), \"header\" or \"jwt\"",
};

/// A variable that breaks its rule. Names the variable and the rule, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The variable, as in `spin.toml`.
    pub variable: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl std::error::Error for SettingError {}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variable {} {}", self.variable, self.rule)
    }
}

/// The raw values, one per variable of `spin.toml`. Variables that a manifest does not declare have the values of
/// [`RawSettings::default`].
pub struct RawSettings {
    /// `store`
    pub store: String,
    /// `redis_url`, for the store `postgres`.
    pub redis_url: String,
    /// `database_url`, for the store `postgres`.
    pub database_url: String,
    /// `redis_key_prefix`
    pub redis_key_prefix: String,
    /// `reservation_ttl`, in seconds
    pub reservation_ttl: String,
    /// `redis_timeout_ms`
    pub redis_timeout_ms: String,
    /// `database_timeout_ms`
    pub database_timeout_ms: String,
    /// `key_reuse`
    pub key_reuse: String,
    /// `replay_during_outage`
    pub replay_during_outage: String,
    /// `precondition`
    pub precondition: String,
    /// `lock_lease_ms`
    pub lock_lease_ms: String,
    /// `identity`
    pub identity: String,
    /// `identity_header`
    pub identity_header: String,
    /// `jwt_keys`
    pub jwt_keys: String,
    /// `jwt_issuer`
    pub jwt_issuer: String,
    /// `jwt_audience`
    pub jwt_audience: String,
    /// `events_token`
    pub events_token: String,
    /// `cors_origins`
    pub cors_origins: String,
    /// `log_requests`
    pub log_requests: String,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            store: "postgres".into(),
            redis_url: String::new(),
            database_url: String::new(),
            redis_key_prefix: String::new(),
            reservation_ttl: "86400".into(),
            redis_timeout_ms: "500".into(),
            database_timeout_ms: "5000".into(),
            key_reuse: "reject".into(),
            replay_during_outage: "true".into(),
            precondition: "key".into(),
            lock_lease_ms: "5000".into(),
            identity: String::new(),
            identity_header: "X-User-Id".into(),
            jwt_keys: String::new(),
            jwt_issuer: String::new(),
            jwt_audience: String::new(),
            events_token: String::new(),
            cors_origins: String::new(),
            log_requests: "false".into(),
        }
    }
}

/// A year. A longer time is a mistake, and Redis refuses expiries that overflow its clock.
const MAX_TTL_SECONDS: u64 = 366 * 24 * 60 * 60;
/// A minute: no client waits longer for a store.
const MAX_TIMEOUT_MS: u64 = 60_000;

const JWT_KEYS: &str = "must be a JWK set with at least one key for EdDSA (Ed25519), ES256, RS256 (2048 to 4096 \
                        bits) or HS256 (256 bits or more), and none of these broken";

impl RawSettings {
    /// All variables by their names in `spin.toml`.
    pub fn variables(&mut self) -> [(&'static str, &mut String); 19] {
        [
            ("store", &mut self.store),
            ("redis_url", &mut self.redis_url),
            ("database_url", &mut self.database_url),
            ("redis_key_prefix", &mut self.redis_key_prefix),
            ("reservation_ttl", &mut self.reservation_ttl),
            ("redis_timeout_ms", &mut self.redis_timeout_ms),
            ("database_timeout_ms", &mut self.database_timeout_ms),
            ("key_reuse", &mut self.key_reuse),
            ("replay_during_outage", &mut self.replay_during_outage),
            ("precondition", &mut self.precondition),
            ("lock_lease_ms", &mut self.lock_lease_ms),
            ("identity", &mut self.identity),
            ("identity_header", &mut self.identity_header),
            ("jwt_keys", &mut self.jwt_keys),
            ("jwt_issuer", &mut self.jwt_issuer),
            ("jwt_audience", &mut self.jwt_audience),
            ("events_token", &mut self.events_token),
            ("cors_origins", &mut self.cors_origins),
            ("log_requests", &mut self.log_requests),
        ]
    }

    /// Checks all values.
    ///
    /// # Errors
    /// The first variable that breaks its rule.
    pub fn check(self) -> Result<Settings, SettingError> {
        Ok(Settings {
            identity: identity(
                &self.identity,
                self.identity_header,
                &self.jwt_keys,
                self.jwt_issuer,
                self.jwt_audience,
            )?,
            events_token: match self.events_token.bytes().all(|byte| byte.is_ascii_graphic()) {
                true => self.events_token,
                false => {
                    return Err(SettingError {
                        variable: "events_token",
                        rule: "must be empty, or visible ASCII characters: it is sent as a bearer token",
                    });
                }
            },
            cors_origins: Origins::parse(&self.cors_origins).ok_or(SettingError {
                variable: "cors_origins",
                rule: "must be empty, \"*\", or origins such as \"https://shop.example\": lower case, no path, no default port",
            })?,
            store: match self.store.as_str() {
                "postgres" => Store::Servers {
                    redis_url: not_empty("redis_url", self.redis_url)?,
                    database_url: not_empty("database_url", self.database_url)?,
                },
                "embedded" => Store::Embedded,
                _ => {
                    return Err(SettingError {
                        variable: "store",
                        rule: "must be \"postgres\" or \"embedded\"",
                    });
                }
            },
            redis_key_prefix: self.redis_key_prefix,
            reservation_ttl: Duration::from_secs(number(
                "reservation_ttl",
                "must be whole seconds, 1 to 31622400",
                &self.reservation_ttl,
                MAX_TTL_SECONDS,
            )?),
            redis_timeout: milliseconds("redis_timeout_ms", &self.redis_timeout_ms)?,
            database_timeout: milliseconds("database_timeout_ms", &self.database_timeout_ms)?,
            replay_policy: ReplayPolicy {
                key_reuse: match self.key_reuse.as_str() {
                    "reject" => KeyReuse::Reject,
                    "replay" => KeyReuse::Replay,
                    _ => {
                        return Err(SettingError {
                            variable: "key_reuse",
                            rule: "must be \"reject\" or \"replay\"",
                        });
                    }
                },
                outage: match boolean("replay_during_outage", &self.replay_during_outage)? {
                    true => OutageReplay::FromRecord,
                    false => OutageReplay::Unavailable,
                },
            },
            precondition: match self.precondition.as_str() {
                "key" => Precondition::Key,
                "etag" => Precondition::Etag,
                "both" => Precondition::Both,
                _ => {
                    return Err(SettingError {
                        variable: "precondition",
                        rule: "must be \"key\", \"etag\" or \"both\"",
                    });
                }
            },
            log_requests: boolean("log_requests", &self.log_requests)?,
            lock_lease: milliseconds("lock_lease_ms", &self.lock_lease_ms)?,
        })
    }
}

fn identity(
    mode: &str,
    header: String,
    keys: &str,
    issuer: String,
    audience: String,
) -> Result<Option<Identity>, SettingError> {
    let error = |variable, rule| SettingError { variable, rule };
    // To Spin, a variable that is not set and an empty one are the same.
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    match mode {
        "" => Ok(None),
        "none" => Ok(Some(Identity::None)),
        "header" if is_field_name(&header) => Ok(Some(Identity::Header(header))),
        "header" => Err(error(
            "identity_header",
            "must be the name of an HTTP field",
        )),
        "jwt" => Ok(Some(Identity::Jwt(Box::new(TokenRules {
            keys: KeySet::parse(keys).ok_or(error("jwt_keys", JWT_KEYS))?,
            issuer: set(issuer),
            audience: set(audience),
        })))),
        _ => Err(IDENTITY),
    }
}

/// RFC 9110 §5.6.2.
fn is_field_name(name: &str) -> bool {
    let part_of_one = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(part_of_one)
}

fn not_empty(variable: &'static str, value: String) -> Result<String, SettingError> {
    if value.is_empty() {
        return Err(SettingError {
            variable,
            rule: "must be set; or set store to \"embedded\", which needs no server and serves one host",
        });
    }
    Ok(value)
}

fn boolean(variable: &'static str, value: &str) -> Result<bool, SettingError> {
    let rule = "must be \"true\" or \"false\"";
    value.parse().map_err(|_| SettingError { variable, rule })
}

fn milliseconds(variable: &'static str, value: &str) -> Result<Duration, SettingError> {
    let rule = "must be whole milliseconds, 1 to 60000";
    number(variable, rule, value, MAX_TIMEOUT_MS).map(Duration::from_millis)
}

fn number(
    variable: &'static str,
    rule: &'static str,
    value: &str,
    max: u64,
) -> Result<u64, SettingError> {
    value
        .parse()
        .ok()
        .filter(|number| (1..=max).contains(number))
        .ok_or(SettingError { variable, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawSettings {
        RawSettings {
            redis_url: "redis://localhost".into(),
            database_url: "postgres://localhost".into(),
            ..RawSettings::default()
        }
    }

    #[test]
    fn good_values_are_taken() {
        let Ok(settings) = raw().check() else {
            panic!("refused");
        };
        assert_eq!(settings.reservation_ttl, Duration::from_secs(24 * 60 * 60));
        assert_eq!(settings.redis_timeout, Duration::from_millis(500));
        assert_eq!(settings.database_timeout, Duration::from_secs(5));
        assert_eq!(settings.replay_policy.key_reuse, KeyReuse::Reject);
        assert_eq!(settings.replay_policy.outage, OutageReplay::FromRecord);
        assert_eq!(settings.precondition, Precondition::Key);
        assert_eq!(settings.lock_lease, Duration::from_secs(5));
    }

    #[test]
    fn limits_are_inclusive() {
        type Set = fn(&mut RawSettings, &str);
        let limits: [(Set, &str, &str); 3] = [
            (
                |raw, v| raw.reservation_ttl = v.into(),
                "31622400",
                "31622401",
            ),
            (|raw, v| raw.redis_timeout_ms = v.into(), "60000", "60001"),
            (|raw, v| raw.database_timeout_ms = v.into(), "1", "0"),
        ];
        for (set, good, bad) in limits {
            let check = |value| {
                let mut raw = raw();
                set(&mut raw, value);
                raw.check()
            };
            assert!(check(good).is_ok(), "{good}");
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_store_postgres_needs_urls() {
        let of = |store: &str| {
            let raw = RawSettings {
                store: store.into(),
                ..RawSettings::default()
            };
            raw.check().map(|settings| settings.store)
        };
        assert!(matches!(of("embedded"), Ok(Store::Embedded)));
        let Err(missing) = of("postgres") else {
            panic!("accepted without URLs");
        };
        let text = missing.to_string();
        assert!(
            text.contains("redis_url") && text.contains("embedded"),
            "{text}"
        );
        assert!(of("").is_err_and(|error| error.variable == "store"));
    }

    #[test]
    fn key_reuse_is_one_of_two_words() {
        let mut raw = raw();
        raw.key_reuse = "replay".into();
        assert!(
            raw.check()
                .is_ok_and(|s| s.replay_policy.key_reuse == KeyReuse::Replay)
        );
    }

    #[test]
    fn replay_during_outage_is_true_or_false() {
        let mut raw = raw();
        raw.replay_during_outage = "false".into();
        let outage = raw.check().map(|settings| settings.replay_policy.outage);
        assert_eq!(outage, Ok(OutageReplay::Unavailable));
    }

    #[test]
    fn precondition_is_one_of_three_words() {
        for (word, precondition) in [("etag", Precondition::Etag), ("both", Precondition::Both)] {
            let mut raw = raw();
            raw.precondition = word.into();
            assert!(raw.check().is_ok_and(|s| s.precondition == precondition));
        }
    }

    #[test]
    fn identity_is_one_of_three_words_and_needs_what_the_word_needs() {
        let of = |identity: &str, header: &str, keys: &str| {
            let checked = RawSettings {
                identity: identity.into(),
                identity_header: header.into(),
                jwt_keys: keys.into(),
                ..raw()
            }
            .check();
            checked
                .and_then(|s| {
                    s.identity()
                        .map(|identity| identity.field().map(ToOwned::to_owned))
                })
                .map_err(|e| e.variable)
        };
        let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        assert_eq!(of("none", "", ""), Ok(None));
        assert_eq!(of("header", "X-User-Id", ""), Ok(Some("X-User-Id".into())));
        assert_eq!(of("jwt", "", keys), Ok(Some("authorization".into())));

        assert_eq!(of("", "", keys), Err("identity"), "not chosen");
        assert!(raw().check().is_ok(), "who does not ask does not need it");
        assert_eq!(of("JWT", "", keys), Err("identity"));
        assert_eq!(of("header", "", keys), Err("identity_header"));
        assert_eq!(of("header", "X User", keys), Err("identity_header"));
        for keys in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-521"}]}"#,
        ] {
            assert_eq!(of("jwt", "", keys), Err("jwt_keys"), "{keys}");
        }
    }

    #[test]
    fn a_bad_value_is_named_without_being_shown() {
        type Break = fn(&mut RawSettings, &str);
        let breaks: [(&str, Break); 16] = [
            ("store", |raw, bad| raw.store = bad.into()),
            ("events_token", |raw, bad| {
                raw.events_token = format!("{bad} ")
            }),
            ("cors_origins", |raw, bad| raw.cors_origins = bad.into()),
            ("log_requests", |raw, bad| raw.log_requests = bad.into()),
            ("identity", |raw, bad| raw.identity = bad.into()),
            ("identity_header", |raw, bad| {
                raw.identity = "header".into();
                raw.identity_header = format!("{bad}:");
            }),
            ("jwt_keys", |raw, bad| {
                raw.identity = "jwt".into();
                raw.jwt_keys = bad.into();
            }),
            ("redis_url", |raw, _| raw.redis_url.clear()),
            ("database_url", |raw, _| raw.database_url.clear()),
            ("reservation_ttl", |raw, bad| {
                raw.reservation_ttl = bad.into()
            }),
            ("redis_timeout_ms", |raw, bad| {
                raw.redis_timeout_ms = bad.into()
            }),
            ("database_timeout_ms", |raw, bad| {
                raw.database_timeout_ms = bad.into()
            }),
            ("key_reuse", |raw, bad| raw.key_reuse = bad.into()),
            ("replay_during_outage", |raw, bad| {
                raw.replay_during_outage = bad.into();
            }),
            ("precondition", |raw, bad| raw.precondition = bad.into()),
            ("lock_lease_ms", |raw, bad| raw.lock_lease_ms = bad.into()),
        ];
        for (variable, break_it) in breaks {
            for bad in ["0", "-1", "99999999999", "s3cret"] {
                let mut raw = raw();
                break_it(&mut raw, bad);
                let error = raw.check().err().expect("invalid");
                let text = error.to_string();
                assert!(
                    text.starts_with(&format!("variable {variable} must")),
                    "{text}"
                );
                assert!(!text.contains("s3cret"));
            }
        }
    }
}
