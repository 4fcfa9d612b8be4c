//! The variables of the component: one table, from which they are read and checked.

use std::fmt;
use std::time::Duration;

use exactly_once::condition::Precondition;
use exactly_once::create::{KeyReuse, OutageReplay, ReplayPolicy};

use crate::cors::{Origins, listed};
use crate::identity::{Identity, KeySet, Keys, TokenRules, Verified};

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
    /// How the service responds to retries.
    pub replay_policy: ReplayPolicy,
    /// What a request for a new resource must have.
    pub precondition: Precondition,
    /// The lease of the lock of a conditional creation.
    pub lock_lease: Duration,
    /// How customers are identified, if that is chosen.
    pub identity: Option<Identity>,
    /// What opens the feed; empty where it is off.
    pub events_token: String,
    /// What a gateway strips from the paths of requests; empty where it strips nothing.
    pub public_base_path: String,
    /// The origins whose pages may use the API, if any.
    pub cors_origins: Option<Origins>,
    /// Headers that these may send besides the usual ones: a list, separated by commas.
    pub cors_allowed_headers: String,
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
    /// How long a statement may wait for the locks of other transactions: shorter than the request waits for the
    /// statement. Otherwise an abandoned statement would still wait on the connection that another request gets.
    pub fn lock_timeout(&self) -> Duration {
        self.database_timeout * 2 / 5
    }

    /// How customers are identified. A component that identifies customers in its own way does not call this, and does
    /// not need the variable.
    ///
    /// # Errors
    /// It has not been chosen. No choice is safe by default: "none" would make all customers one.
    pub fn identity(&self) -> Result<&Identity, SettingErrors> {
        self.identity.as_ref().ok_or_else(|| SettingErrors(vec![rows::identity]))
    }
}

/// A row of the table of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, as in `spin.toml`.
    pub name: &'static str,
    /// The value that it has where a manifest does not declare it.
    pub default: &'static str,
    /// What the variable must be, as in the log.
    pub rule: &'static str,
    /// The one setting under which it means something, as `variable=value`; empty where it always does.
    pub only_with: &'static str,
    /// Whether it is a secret.
    pub secret: bool,
}

/// All variables that break their rules. Names the variables and the rules, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingErrors(pub Vec<Variable>);

impl std::error::Error for SettingErrors {}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Variable { name, rule, .. }) in self.0.iter().enumerate() {
            let end_of_last = if n == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}variable {name} {rule}")?;
        }
        Ok(())
    }
}

macro_rules! variables {
    ($($(#[$only:meta])* $name:ident: $type:ty = $default:literal, $only_with:literal, $secret:literal, $rule:literal,
        $read:expr;)*) => {
        /// All variables.
        pub const VARIABLES: &[Variable] = &[$($(#[$only])* rows::$name),*];

        /// The raw values of all variables. Those that a manifest does not declare have the values of
        /// [`RawSettings::default`].
        pub struct RawSettings {
            $($(#[$only])* #[doc = concat!("`", stringify!($name), "`: ", $rule)] pub $name: String,)*
        }

        impl Default for RawSettings {
            fn default() -> Self {
                Self { $($(#[$only])* $name: $default.into()),* }
            }
        }

        impl RawSettings {
            /// All variables by their names in `spin.toml`.
            pub fn variables(&mut self) -> [(&'static str, &mut String); VARIABLES.len()] {
                [$($(#[$only])* (stringify!($name), &mut self.$name)),*]
            }

            $($(#[$only])* fn $name(&self, wrong: &mut Vec<Variable>) -> Option<$type> {
                let read: fn(&str) -> Option<$type> = $read;
                let value = read(&self.$name);
                if value.is_none() {
                    wrong.push(rows::$name);
                }
                value
            })*
        }

        #[allow(non_upper_case_globals, reason = "named like the variables")]
        mod rows {
            $($(#[$only])* pub const $name: super::Variable = super::Variable {
                name: stringify!($name), default: $default, rule: $rule, only_with: $only_with, secret: $secret,
            };)*
        }
    };
}

// name: type = default, the setting that it is for, whether it is a secret, rule, how it is read
variables! {
    store: IsEmbedded = "", "", false, "must be \"postgres\", \"embedded\" or empty",
        |text| word(text, [("", None), ("postgres", Some(false)), ("embedded", Some(true))]);
    redis_url: String = "", "store=postgres", true,
        "must be set; or leave store and both URLs out: SQLite needs no server and serves one host", not_empty;
    database_url: String = "", "store=postgres", true,
        "must be set; or leave store and both URLs out: SQLite needs no server and serves one host", not_empty;
    redis_key_prefix: String = "", "store=postgres", false, "may be anything", anything;
    reservation_ttl: Duration = "86400", "store=postgres", false, "must be whole seconds, 1 to 31622400",
        |text| number(text, MAX_TTL_SECONDS).map(Duration::from_secs);
    redis_timeout_ms: Duration = "500", "store=postgres", false, "must be whole milliseconds, 1 to 60000", milliseconds;
    database_timeout_ms: Duration = "5000", "", false, "must be whole milliseconds, 1 to 60000", milliseconds;
    key_reuse: KeyReuse = "reject", "", false, "must be \"reject\" or \"replay\"",
        |text| word(text, [("reject", KeyReuse::Reject), ("replay", KeyReuse::Replay)]);
    replay_during_outage: OutageReplay = "true", "store=postgres", false, "must be \"true\" or \"false\"",
        |text| word(text, [("true", OutageReplay::FromRecord), ("false", OutageReplay::Unavailable)]);
    precondition: Precondition = "key", "", false, "must be \"key\", \"etag\" or \"both\"",
        |text| word(text, [("key", Precondition::Key), ("etag", Precondition::Etag), ("both", Precondition::Both)]);
    lock_lease_ms: Duration = "5000", "store=postgres", false, "must be whole milliseconds, 1 to 60000", milliseconds;
    identity: Mode = "", "", false,
        "must be chosen: \"none\" (all requests belong to one customer), \"header\" or \"jwt\"",
        |text| word(text, [("", Mode::Open), ("none", Mode::None), ("header", Mode::Header), ("jwt", Mode::Jwt)]);
    identity_header: String = "X-User-Id", "identity=header", false, "must be the name of an HTTP field",
        |text| anything(text).filter(|name| is_field_name(name));
    jwt_keys: KeySet = "", "identity=jwt", true,
        "must be a JWK set with at least one key for EdDSA (Ed25519), ES256, RS256 (2048 to 4096 bits) or HS256 (256 \
         bits or more), and none of these broken", KeySet::parse;
    #[cfg(any(test, feature = "fetch"))]
    jwt_keys_url: String = "", "identity=jwt", false, "must be empty, or an http or https URL, with jwt_keys empty",
        |text| anything(text).filter(|url| {
            url.is_empty() || url.starts_with("http://") || url.starts_with("https://")
        });
    jwt_customer_claim: String = "sub", "identity=jwt", false, "may be anything", anything;
    jwt_issuer: String = "", "identity=jwt", false, "may be anything", anything;
    jwt_audience: String = "", "identity=jwt", false, "may be anything", anything;
    events_token: String = "", "", true,
        "must be empty, or 32 or more visible ASCII characters: it is sent as a bearer token",
        |text| anything(text).filter(|token| token.is_empty() || token.len() >= 32 && is_visible(token));
    cors_origins: Option<Origins> = "", "", false,
        "must be empty, \"*\", or origins such as \"https://shop.example\": lower case, no path, no default port",
        Origins::parse;
    cors_allowed_headers: String = "", "", false,
        "must be empty, or names of HTTP fields, separated by commas", |text| {
        let names = listed(text);
        names.iter().all(|name| is_field_name(name)).then(|| names.join(", "))
    };
    public_base_path: String = "", "", false,
        "must be empty, or a path such as \"/shop\" that does not end with a slash",
        |text| anything(text).filter(|path| path.is_empty() || is_base_path(path));
    log_requests: bool = "false", "", false, "must be \"true\" or \"false\"", |text| text.parse().ok();
}

/// A year. A longer time is a mistake, and Redis rejects expiries that overflow its clock.
const MAX_TTL_SECONDS: u64 = 366 * 24 * 60 * 60;
/// A minute: no client waits longer for a store.
const MAX_TIMEOUT_MS: u64 = 60_000;

/// None where it is not said.
type IsEmbedded = Option<bool>;

/// The values of `identity`; it is open until it is chosen.
#[derive(Clone, Copy)]
enum Mode {
    Open,
    None,
    Header,
    Jwt,
}

impl RawSettings {
    /// Whether no variable says where the resources are: then they are in SQLite, and unless a variable says how
    /// customers are identified, there is one. So a component without any variable serves.
    pub fn is_local(&self) -> bool {
        [&self.store, &self.redis_url, &self.database_url].iter().all(|value| value.is_empty())
    }

    /// Checks all values.
    ///
    /// # Errors
    /// All variables that break their rules; among them `identity`, if it is not chosen either.
    pub fn check(self) -> Result<Settings, SettingErrors> {
        let mut wrong = Vec::new();
        let settings = self.read(&mut wrong);
        settings.filter(|_| wrong.is_empty()).ok_or_else(|| {
            if self.identity.is_empty() && !self.is_local() {
                wrong.push(rows::identity);
            }
            SettingErrors(wrong)
        })
    }

    /// The settings. Errors are added to the list, because the next variable may be wrong as well.
    fn read(&self, wrong: &mut Vec<Variable>) -> Option<Settings> {
        let identity = match self.identity(wrong) {
            Some(Mode::Open) if self.is_local() => Some(Identity::None),
            None | Some(Mode::Open) => None,
            Some(Mode::None) => Some(Identity::None),
            Some(Mode::Header) => self.identity_header(wrong).map(Identity::Header),
            #[cfg(not(feature = "tokens"))]
            Some(Mode::Jwt) => {
                wrong.push(rows::identity);
                None
            }
            #[cfg(feature = "tokens")]
            Some(Mode::Jwt) => self.token_rules(wrong).map(|rules| Identity::Jwt(Box::new(rules))),
        };
        let is_embedded = self.store(wrong).map(|said| said.unwrap_or_else(|| self.is_local()));
        let store = match is_embedded {
            Some(true) => Some(Store::Embedded),
            Some(false) => {
                let (redis_url, database_url) = (self.redis_url(wrong), self.database_url(wrong));
                redis_url.zip(database_url).map(|(redis_url, database_url)| Store::Servers { redis_url, database_url })
            }
            None => None,
        };
        let reservation_ttl = self.reservation_ttl(wrong);
        let (redis_timeout, database_timeout) = (self.redis_timeout_ms(wrong), self.database_timeout_ms(wrong));
        let (key_reuse, outage) = (self.key_reuse(wrong), self.replay_during_outage(wrong));
        let (precondition, lock_lease) = (self.precondition(wrong), self.lock_lease_ms(wrong));
        let (events_token, cors_origins) = (self.events_token(wrong), self.cors_origins(wrong));
        let cors_allowed_headers = self.cors_allowed_headers(wrong);
        let public_base_path = self.public_base_path(wrong);
        let log_requests = self.log_requests(wrong);
        Some(Settings {
            identity,
            events_token: events_token?,
            cors_origins: cors_origins?,
            cors_allowed_headers: cors_allowed_headers?,
            public_base_path: public_base_path?,
            store: store?,
            redis_key_prefix: self.redis_key_prefix(wrong)?,
            reservation_ttl: reservation_ttl?,
            redis_timeout: redis_timeout?,
            database_timeout: database_timeout?,
            replay_policy: ReplayPolicy { key_reuse: key_reuse?, outage: outage? },
            precondition: precondition?,
            log_requests: log_requests?,
            lock_lease: lock_lease?,
        })
    }

    /// The keys of tokens: given, or at a URL.
    #[cfg_attr(not(feature = "tokens"), allow(dead_code, reason = "see token_rules"))]
    fn keys(&self, wrong: &mut Vec<Variable>) -> Option<Keys> {
        #[cfg(any(test, feature = "fetch"))]
        match (self.jwt_keys_url(wrong)?, self.jwt_keys.is_empty()) {
            (url, _) if url.is_empty() => {}
            (url, true) => return Some(Keys::at(url)),
            (_, false) => {
                wrong.push(rows::jwt_keys_url);
                return None;
            }
        }
        self.jwt_keys(wrong).map(Keys::given)
    }

    #[cfg_attr(not(feature = "tokens"), allow(dead_code, reason = "the linker removes it, and with it all of JWS"))]
    fn token_rules(&self, wrong: &mut Vec<Variable>) -> Option<TokenRules> {
        // To Spin, a variable that is not set and an empty one are the same.
        let set = |text: &String| !text.is_empty();
        let keys = self.keys(wrong)?;
        Some(TokenRules {
            keys,
            customer_claim: self.jwt_customer_claim(wrong)?,
            issuer: self.jwt_issuer(wrong).filter(set),
            audience: self.jwt_audience(wrong).filter(set),
            verified: Verified::default(),
        })
    }
}

fn word<T: Copy, const N: usize>(text: &str, words: [(&str, T); N]) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value)
}

fn anything(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn not_empty(text: &str) -> Option<String> {
    anything(text).filter(|text| !text.is_empty())
}

/// Its characters need no escapes in a URI and in JSON (RFC 3986 section 2.3, and slashes).
fn is_base_path(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.starts_with('/') && !text.ends_with('/') && text.bytes().all(fits)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 9110 section 5.6.2.
fn is_field_name(name: &str) -> bool {
    let part_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(part_of_one)
}

fn milliseconds(text: &str) -> Option<Duration> {
    number(text, MAX_TIMEOUT_MS).map(Duration::from_millis)
}

fn number(text: &str, max: u64) -> Option<u64> {
    text.parse().ok().filter(|number| (1..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings with these variables (`name=value`, separated by spaces), and the URLs of servers.
    fn check(set: &str) -> Result<Settings, SettingErrors> {
        let mut raw = RawSettings::default();
        for text in "redis_url=r database_url=d".split(' ').chain(set.split(' ')) {
            let (name, value) = text.split_once('=').unwrap_or_default();
            let mut variables = raw.variables().into_iter();
            if let Some((_, variable)) = variables.find(|(other, _)| *other == name) {
                *variable = value.replace('~', " ");
            }
        }
        raw.check()
    }

    #[test]
    fn good_values_are_taken() {
        let times = |s: Settings| [s.reservation_ttl, s.redis_timeout, s.lock_lease];
        let day = Duration::from_secs(86_400);
        let default = [day, Duration::from_millis(500), Duration::from_secs(5)];
        assert_eq!(check("").map(times), Ok(default));
        let (reject, replay) = (KeyReuse::Reject, KeyReuse::Replay);
        let (record, unavailable) = (OutageReplay::FromRecord, OutageReplay::Unavailable);
        for (set, key_reuse, outage, precondition) in [
            ("", reject, record, Precondition::Key),
            ("key_reuse=replay", replay, record, Precondition::Key),
            ("replay_during_outage=false", reject, unavailable, Precondition::Key),
            ("precondition=etag", reject, record, Precondition::Etag),
            ("precondition=both", reject, record, Precondition::Both),
        ] {
            let taken = check(set).map(|settings| (settings.replay_policy, settings.precondition));
            let expected = (ReplayPolicy { key_reuse, outage }, precondition);
            assert_eq!(taken, Ok(expected), "{set}");
        }
        let embedded = check("store=embedded redis_url= database_url=");
        assert!(
            embedded.is_ok_and(|settings| matches!(settings.store, Store::Embedded) && settings.identity.is_none())
        );
        let local = check("redis_url= database_url=").expect("nothing is required");
        assert!(matches!((&local.store, &local.identity), (Store::Embedded, Some(Identity::None))));
    }

    #[test]
    fn identity_is_one_of_three_words() {
        let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let field = |set: &str| {
            let settings = check(&format!("jwt_keys={keys} {set}"))?;
            settings.identity().map(|identity| identity.field().map(ToOwned::to_owned))
        };
        assert_eq!(field("identity=none"), Ok(None));
        assert_eq!(field("identity=header"), Ok(Some("X-User-Id".into())));
        assert_eq!(field("identity=jwt"), Ok(Some("authorization".into())));
        assert_eq!(field(""), Err(SettingErrors(vec![rows::identity])), "not chosen");
        assert!(check("").is_ok(), "who does not ask does not need it");
    }

    #[test]
    fn a_bad_value_is_named_without_being_shown() {
        for (set, wrong) in [
            ("reservation_ttl=31622400 redis_timeout_ms=60000 database_timeout_ms=1", ""),
            ("reservation_ttl=31622401", "reservation_ttl"),
            ("redis_timeout_ms=60001", "redis_timeout_ms"),
            ("database_timeout_ms=0", "database_timeout_ms"),
            ("redis_timeout_ms=-1", "redis_timeout_ms"),
            ("lock_lease_ms=99999999999", "lock_lease_ms"),
            ("store=x", "store"),
            ("store=postgres redis_url= database_url=", "redis_url database_url"),
            ("redis_url= identity=", "redis_url identity"),
            ("public_base_path=/shop/v~2", "public_base_path"),
            ("public_base_path=/shop/v.2", ""),
            ("public_base_path=/shop/", "public_base_path"),
            ("public_base_path=shop", "public_base_path"),
            ("cors_allowed_headers=sentry-trace,~X-Requested-With", ""),
            ("cors_allowed_headers=sentry-trace:x", "cors_allowed_headers"),
            ("events_token=0123456789abcdef0123456789abcdef", ""),
            ("events_token=0123456789abcdef0123456789abcde", "events_token"),
            ("events_token=0123456789abcdef~0123456789abcdef", "events_token"),
            ("redis_url=", "redis_url"),
            ("identity=JWT", "identity"),
            ("identity=header identity_header=", "identity_header"),
            ("identity=header identity_header=X~User", "identity_header"),
            ("identity=jwt", "jwt_keys"),
            (r#"identity=jwt jwt_keys={"keys":[]}"#, "jwt_keys"),
            ("identity=jwt jwt_keys_url=https://issuer.example/keys", ""),
            ("identity=jwt jwt_keys_url=ftp://issuer.example/keys", "jwt_keys_url"),
            (r#"identity=jwt jwt_keys_url=https://issuer.example/keys jwt_keys={"keys":[]}"#, "jwt_keys_url"),
            (r#"identity=jwt jwt_keys={"keys":[{"kty":"EC","crv":"P-521"}]}"#, "jwt_keys"),
            (
                "store=postgres redis_url= database_url= key_reuse=x log_requests=x identity=",
                "redis_url database_url key_reuse log_requests identity",
            ),
        ] {
            let named = |error: SettingErrors| error.0.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
            let set = format!("identity=none {set}");
            assert_eq!(check(&set).err().map(named).unwrap_or_default(), wrong, "{set}");
        }
        let with_rule = VARIABLES.iter().filter(|variable| variable.rule != "may be anything");
        for Variable { name, only_with, .. } in with_rule {
            let bad = if matches!(*name, "redis_url" | "database_url") { "" } else { "s3cret~:" };
            let text = check(&format!("{only_with} {name}={bad}")).err().expect("invalid").to_string();
            assert!(text.starts_with(&format!("variable {name} must")), "{text}");
            assert!(!text.contains("s3cret"));
        }
    }
}
