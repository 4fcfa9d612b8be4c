//! The routes of identity. A user is inserted as a resource is: one statement decides who gets an e-mail.

use exactly_once::error::DatabaseError;
use exactly_once::key::KeyError;
use exactly_once::ports::{
    Insertion, NewResource, ResourceIds, ResourceLists, Resources, ResourcesByKey, StoredResource,
};
use exactly_once::{Document, ResourceId};
use exactly_once_http::identity::{Identity, KeySet, Keys, TokenRules, Unidentified, Verified};
use exactly_once_http::settings::{Settings, Store};
use exactly_once_http::{
    Body, Head, Host, IDEMPOTENT_REPLAYED, Method, Outcome, Problem, Response, health, identify, read_document,
    read_key, readiness,
};
use exactly_once_spin::{Database, SpinHost};
use exactly_once_stores::sql::{Parameter, Statement};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::tokens::SigningKeys;
use crate::{
    COLLECTION, LOGIN, MAX_ATTEMPTS, PERIOD, REGISTRATION, fingerprint, hash, scope, shown, slot, verify, with_password,
};

/// How often an insertion is repeated that has met another one's row before it was visible.
const TRIES: usize = 10;

/// Answers a request.
async fn respond(head: &impl Head, body: impl Body, host: &SpinHost) -> Response {
    let answer = answer(head, body, host).await;
    answer.unwrap_or_else(|problem| problem.into_response(&COLLECTION))
}

async fn answer(head: &impl Head, body: impl Body, host: &SpinHost) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let settings = host.settings().await?;
    let response = match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => return Ok(health()),
        (Method::Get | Method::Head, "/readyz") => return Ok(readiness(query, host, &settings).await),
        (Method::Get | Method::Head, "/.well-known/jwks.json") => {
            let keys = signing_keys(host).await?.public();
            return Ok(Response::json(StatusCode::OK, keys).with(header::CACHE_CONTROL.as_str(), "max-age=60"));
        }
        (Method::Post, "/api/v1/identity/register") => register(head, body, host, &settings).await?,
        (Method::Post, "/api/v1/identity/login") => login(head, body, host, &settings).await?,
        (Method::Get | Method::Head, "/api/v1/identity/me") => show(head, host, &settings).await?,
        (_, "/api/v1/identity/register" | "/api/v1/identity/login") => {
            return Err(Problem::MethodNotAllowed { allow: "POST" });
        }
        (_, "/api/v1/identity/me" | "/.well-known/jwks.json") => {
            return Err(Problem::MethodNotAllowed { allow: "GET, HEAD" });
        }
        _ => return Err(Problem::UnknownPath),
    };
    Ok(match response.status {
        status if status.is_success() => response.with(header::CACHE_CONTROL.as_str(), "no-store"),
        _ => response,
    })
}

/// Registers a user, or repeats the response to the same registration with the same key. Another one of the e-mail
/// learns nothing but that.
async fn register(
    head: &impl Head,
    body: impl Body,
    host: &SpinHost,
    settings: &Settings,
) -> Result<Response, Problem> {
    let key = match read_key(head) {
        Err(Problem::Key(KeyError::Missing)) => None,
        key => Some(key?),
    };
    let mut user = read_document(&REGISTRATION, head, body).await?;
    let member = |name: &str| user.get(name).and_then(Value::as_str).unwrap_or_default();
    let (password, scope) = (member("password").to_owned(), scope(member("email")).ok_or(Problem::Unreadable)?);
    let id = host.ids().draw();
    // Without a key of its own, no request is the same as another.
    let attempt = key.as_ref().map_or_else(|| id.to_string(), |key| key.as_str().to_owned());
    let fingerprint = fingerprint(&scope, &attempt, &user);
    let database = host.postgres(settings);
    let mut existing = database.find_by_key(&scope).await?.value;
    if existing.is_none() {
        user = with_password(user, hash(&password).ok_or(Problem::Unreadable)?.into());
        let new = NewResource { scope, id, fingerprint, document: Document::of(&user) };
        match insert(&new, &database, key.is_some()).await? {
            None => return Ok(Response::json(StatusCode::CREATED, shown(id, &user).ok_or(Problem::Unreadable)?)),
            stored => existing = stored,
        }
    }
    // A retry is one of who knows the password: that has no part in the fingerprint.
    let same = existing.filter(|user| user.fingerprint == fingerprint);
    let same = same.filter(|user| verify(&password, password_of(&user.document.value()).as_deref()));
    let Some(StoredResource { id, document, .. }) = same else {
        return Ok(Response::problem(
            StatusCode::CONFLICT,
            COLLECTION.name,
            "email-taken",
            "The e-mail address is registered",
            "Log in, or register another e-mail address. A retry needs the Idempotency-Key of the first attempt.",
        ));
    };
    let user = shown(id, &document.value()).ok_or(Problem::Unreadable)?;
    let response = Response::json(StatusCode::CREATED, user).with(IDEMPOTENT_REPLAYED, "true");
    Ok(response.with_outcome(Outcome::Replayed))
}

/// Inserts a user, or returns the one that has the e-mail.
async fn insert(new: &NewResource, database: &Database<'_>, has_key: bool) -> Result<Option<StoredResource>, Problem> {
    for _ in 0..TRIES {
        match database.insert_unless_exists(new).await.map(|insertion| insertion.value) {
            Ok(Insertion::Inserted) => return Ok(None),
            Ok(Insertion::Existing(stored)) => return Ok(Some(stored)),
            Ok(Insertion::Conflict) => {}
            Err(DatabaseError::Unavailable) if has_key => return Err(Problem::CreationUndecided),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::DatabaseUnavailable)
}

fn password_of(user: &Value) -> Option<String> {
    Some(user.get("password")?.as_str()?.to_owned())
}

/// Logs a user in. An unknown e-mail and a wrong password are one response, in the same time.
async fn login(head: &impl Head, body: impl Body, host: &SpinHost, settings: &Settings) -> Result<Response, Problem> {
    let sent = read_document(&LOGIN, head, body).await?;
    let member = |name: &str| sent.get(name).and_then(Value::as_str).unwrap_or_default();
    let (email, password) = (member("email"), member("password"));
    let keys = signing_keys(host).await?;
    let database = host.postgres(settings);
    let now = host.unix_seconds();
    let period = now / PERIOD;
    // Counted before the password is looked at: of many guesses at once no more than these are.
    if count_attempt(slot(email), period, &database, settings).await? > MAX_ATTEMPTS {
        let rest = PERIOD - now % PERIOD;
        return Ok(Response::problem(
            StatusCode::TOO_MANY_REQUESTS,
            COLLECTION.name,
            "too-many-attempts",
            "Too many log-ins of this account have failed",
            "Wait for the time in Retry-After.",
        )
        .with(header::RETRY_AFTER.as_str(), rest.to_string()));
    }
    let stored = match scope(email) {
        Some(scope) => database.find_by_key(&scope).await?.value,
        None => None,
    };
    let user = stored.map(|stored| (stored.id, stored.document.value()));
    let hash = user.as_ref().and_then(|(_, user)| password_of(user));
    let (true, Some((id, user))) = (verify(password, hash.as_deref()), user) else {
        return Ok(Response::problem(
            StatusCode::UNAUTHORIZED,
            COLLECTION.name,
            "wrong-credentials",
            "E-mail address or password is wrong",
            "Check both.",
        )
        .with(header::WWW_AUTHENTICATE.as_str(), "Bearer"));
    };
    forgive_attempt(slot(email), period, &database).await?;
    let (issuer, audience) = (host.variable("jwt_issuer").await?, host.variable("jwt_audience").await?);
    let email = user.get("email").and_then(Value::as_str).unwrap_or_default();
    let token = keys.token(&id.to_string(), email, &issuer, &audience, now).ok_or(Problem::Misconfigured)?;
    Ok(Response::json(StatusCode::OK, json!({"accessToken": token}).to_string()))
}

/// Counts an attempt, and returns how many there were in the period. Hosts whose clocks differ count in the later one.
async fn count_attempt(slot: i64, period: i64, database: &Database<'_>, settings: &Settings) -> Result<i64, Problem> {
    if let Store::Embedded = settings.store {
        let create =
            "CREATE TABLE IF NOT EXISTS login_attempts (slot INTEGER PRIMARY KEY, period INTEGER, attempts INTEGER)";
        database.rows(Statement::plain(create)).await?;
    }
    let rows = database
        .rows(Statement {
            sql: "INSERT INTO login_attempts (slot, period, attempts) VALUES ($1, $2, 1) \
                  ON CONFLICT (slot) DO UPDATE SET \
                      attempts = CASE WHEN excluded.period > login_attempts.period THEN 1 \
                                 ELSE login_attempts.attempts + 1 END, \
                      period = CASE WHEN excluded.period > login_attempts.period THEN excluded.period \
                               ELSE login_attempts.period END \
                  RETURNING CAST(attempts AS text) AS attempts",
            parameters: vec![Parameter::Int64(slot), Parameter::Int64(period)],
        })
        .await?;
    let attempts = rows.first().and_then(|row| row.text("attempts"));
    attempts.and_then(|attempts| attempts.parse().ok()).ok_or(Problem::Unreadable)
}

/// Takes an attempt back that was not a failure.
async fn forgive_attempt(slot: i64, period: i64, database: &Database<'_>) -> Result<(), Problem> {
    let sql = "UPDATE login_attempts SET attempts = attempts - 1 WHERE slot = $1 AND period = $2 RETURNING 1 AS one";
    let parameters = vec![Parameter::Int64(slot), Parameter::Int64(period)];
    database.rows(Statement { sql, parameters }).await?;
    Ok(())
}

/// Shows the user whom the token names.
async fn show(head: &impl Head, host: &SpinHost, settings: &Settings) -> Result<Response, Problem> {
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    let keys = KeySet::parse(&signing_keys(host).await?.public()).ok_or(Problem::Misconfigured)?;
    let identity = Identity::Jwt(Box::new(TokenRules {
        keys: Keys::given(keys),
        customer_claim: "sub".to_owned(),
        issuer: set(host.variable("jwt_issuer").await?),
        audience: set(host.variable("jwt_audience").await?),
        verified: Verified::default(),
    }));
    let customer = identify(&identity, head, host).await?;
    let unknown = Problem::Unidentified(Unidentified::InvalidToken);
    let id = ResourceId::parse(customer.as_str()).ok_or(unknown.clone())?;
    let nobody = exactly_once::Customer::anonymous();
    let user = host.postgres(settings).find(&nobody, id).await?.ok_or(unknown)?;
    let user = shown(user.id, &user.document.value()).ok_or(Problem::Unreadable)?;
    Ok(Response::json(StatusCode::OK, user))
}

async fn signing_keys(host: &SpinHost) -> Result<SigningKeys, Problem> {
    SigningKeys::parse(&host.variable("signing_keys").await?).ok_or_else(|| {
        eprintln!("variable signing_keys must be a JWK set of private keys for Ed25519, each with kid and d");
        Problem::Misconfigured
    })
}

exactly_once_spin::component!(COLLECTION, respond);
