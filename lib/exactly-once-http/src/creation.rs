//! Creating resources over HTTP.

use exactly_once::condition::{Expected, Precondition};
use exactly_once::create::conditional::create_conditionally as create_on_condition;
use exactly_once::create::{CreateRequest, Creation, ReplayPolicy, find_requested};
use exactly_once::error::{CreateError, ReservationsUnavailable};
use exactly_once::json::Malformed;
use exactly_once::key::KeyError;
use exactly_once::ports::{
    ConditionalResources, Histories, Locks, Reservation, Reservations, ResourceIds, Resources, ResourcesByKey,
};
use exactly_once::{Collection, Customer, Document, IdempotencyKey, KeyScope, Record, Resource};
use http::{StatusCode, header};
use serde_json::Value;

use crate::conditions::if_match;
use crate::etag::ETag;
use crate::head::{Body, Head, MAX_BODY_BYTES, text};
use crate::outcome::Outcome;
use crate::problem::Problem;
use crate::reading::represent;
use crate::response::Response;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of a response that repeats an earlier one.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
const JSON: &str = "application/json";

/// The operation that the head of a creation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOperation {
    /// Create the resource; see [`create`].
    Unconditional(KeyScope),
    /// Create the resource on a condition; see [`create_conditionally`].
    Conditional(ConditionalRequest),
    /// Reject the request because it lacks a condition, unless its key has the resource already; see
    /// [`replay_or_refuse`].
    WithoutCondition(KeyScope),
}

impl CreateOperation {
    /// The scope of the request's key, if it has one.
    pub fn scope(self, collection: &Collection) -> Option<KeyScope> {
        match self {
            Self::Unconditional(scope) | Self::WithoutCondition(scope) => Some(scope),
            Self::Conditional(ConditionalRequest { customer, key, .. }) => {
                key.map(|key| scope_of(collection, customer, key))
            }
        }
    }
}

fn scope_of(collection: &Collection, customer: Customer, key: IdempotencyKey) -> KeyScope {
    KeyScope { collection: collection.name, customer, key }
}

/// The head of a conditional creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionalRequest {
    /// The customer.
    pub customer: Customer,
    /// The key, without which the request cannot be repeated.
    pub key: Option<IdempotencyKey>,
    /// The condition.
    pub expected: Expected,
}

/// Validates the head of a creation, except for the body's type and length.
///
/// # Errors
/// The key is missing where it is required; key or condition are malformed; or both are missing.
pub fn read_head(
    collection: &Collection,
    customer: Customer,
    head: &impl Head,
    precondition: Precondition,
) -> Result<CreateOperation, Problem> {
    let key = match read_key(head) {
        Err(Problem::Key(KeyError::Missing)) if precondition == Precondition::Etag => None,
        key => Some(key?),
    };
    match (key, read_condition(head)?) {
        (Some(key), None) => {
            let scope = scope_of(collection, customer, key);
            Ok(match precondition {
                Precondition::Key => CreateOperation::Unconditional(scope),
                Precondition::Etag | Precondition::Both => CreateOperation::WithoutCondition(scope),
            })
        }
        // "*" matches any state: without a key, each retry would create another resource.
        (None, None | Some(Expected::Any)) => Err(Problem::PreconditionRequired),
        (key, Some(expected)) => Ok(CreateOperation::Conditional(ConditionalRequest { customer, key, expected })),
    }
}

/// The `Idempotency-Key` of a request.
///
/// # Errors
/// It is missing, malformed, or there are several.
pub fn read_key(head: &impl Head) -> Result<IdempotencyKey, Problem> {
    let values = head.values(IDEMPOTENCY_KEY);
    IdempotencyKey::from_field_values(values.iter().map(Vec::as_slice)).map_err(Problem::Key)
}

/// The condition in `If-Match`, if there is one.
///
/// # Errors
/// It is malformed.
pub fn read_condition(head: &impl Head) -> Result<Option<Expected>, Problem> {
    if_match(head)
}

/// Reads and validates the body of a creation, and returns its document.
///
/// # Errors
/// The body is not declared as JSON, is compressed, cannot be read, or is not a valid document.
pub async fn read_document(resource: &Resource, head: &impl Head, body: impl Body) -> Result<Value, Problem> {
    let body = read_json(head, body).await?;
    resource.validate(&body).map_err(Problem::Invalid)
}

/// Reads the body of a creation.
///
/// # Errors
/// The body is not declared as JSON, is compressed, cannot be read, or is not JSON.
pub async fn read_json(head: &impl Head, body: impl Body) -> Result<Value, Problem> {
    let body = read_body(head, body, JSON, MAX_BODY_BYTES).await?;
    // A byte order mark, or UTF-16: JSON begins with an ASCII character.
    if let [0xEF, 0xBB, 0xBF, ..] | [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [0, ..] | [_, 0, ..] = body.as_slice() {
        let why = "in UTF-8, and not in UTF-16 or with a byte order mark";
        return Err(Problem::NotJson(Malformed(why.to_owned())));
    }
    exactly_once::json::parse(&body).map_err(Problem::NotJson)
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// The body is not declared as that media type, is compressed, or cannot be read.
pub async fn read_body(
    head: &impl Head,
    body: impl Body,
    media_type: &'static str,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    if !is_of_type(head, media_type) {
        return Err(Problem::UnsupportedMediaType(media_type));
    }
    if is_encoded(head) {
        return Err(Problem::UnsupportedContentCoding);
    }
    let declared = declared_length(head);
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(Problem::BodyTooLarge(limit));
    }
    body.read(declared, limit).await.map_err(|error| Problem::of_body(error, limit))
}

/// The body's length in bytes, according to the head (RFC 9110 section 8.6).
fn declared_length(head: &impl Head) -> Option<u64> {
    let values = head.values(header::CONTENT_LENGTH.as_str());
    text(values.first()?)?.parse().ok()
}

/// Whether the body is of that media type, with or without parameters (RFC 9110 section 8.3.1), given once. A body
/// without a type is JSON: Go's client and others send none.
///
/// A page of another origin can send such a body without a preflight (`fetch` with a `Blob` without a type). What makes
/// the browser ask first is `Idempotency-Key`, or `If-Match` where no key is required: neither is a CORS-safelisted
/// header, and a creation without both is rejected.
fn is_of_type(head: &impl Head, media_type: &str) -> bool {
    let values = head.values(header::CONTENT_TYPE.as_str());
    let [value] = values.as_slice() else {
        return values.is_empty() && media_type == JSON;
    };
    let essence = text(value).and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

/// Whether the body has a content coding, such as gzip (RFC 9110 section 8.4). An empty list and "identity" mean none.
fn is_encoded(head: &impl Head) -> bool {
    let is_none = |coding: &str| {
        let coding = coding.trim();
        coding.is_empty() || coding.eq_ignore_ascii_case("identity")
    };
    let values = head.values(header::CONTENT_ENCODING.as_str());
    !values.iter().all(|value| text(value).is_some_and(|value| value.split(',').all(is_none)))
}

/// Replays the resource of the key if it is the one that a rejected request asks for: then the first attempt was valid.
/// Otherwise rejects the request.
///
/// # Errors
/// The problem of the rejected request, or Postgres did not respond.
pub async fn replay_or_refuse(
    resource: &Resource,
    scope: Option<KeyScope>,
    body: &Value,
    problem: Problem,
    policy: ReplayPolicy,
    resources: &impl ResourcesByKey,
) -> Result<Response, Problem> {
    let Some(scope) = scope else {
        return Err(problem);
    };
    let requested = resource.as_stored(body).as_ref().map(Document::of);
    match find_requested(&scope, requested.as_ref(), policy.key_reuse, resources).await {
        Ok(Some(stored)) => created(resource, &Creation::Reused(stored), body),
        Ok(None) => Err(problem),
        Err(error) => Err(CreateError::from(error).into()),
    }
}

/// Creates a resource and responds. The document is one that [`Resource::validate`] returned.
///
/// # Errors
/// See [`exactly_once::create::create`].
pub async fn create(
    resource: &Resource,
    scope: KeyScope,
    document: &Value,
    policy: ReplayPolicy,
    reservations: &impl Reservations,
    resources: &(impl Resources + Histories),
    ids: &impl ResourceIds,
) -> Result<Response, Problem> {
    let request = CreateRequest::new(scope, &resource.collection, Document::of(document));
    let creation = exactly_once::create::create(request, policy, reservations, resources, ids).await?;
    created(resource, &creation, document)
}

/// Creates a resource on a condition and responds. The response about a new resource has the list's new tag.
///
/// # Errors
/// See [`create_on_condition`]. Without a key the client cannot find out whether a resource that was not acknowledged
/// exists.
pub async fn create_conditionally(
    resource: &Resource,
    conditional: ConditionalRequest,
    document: &Value,
    policy: ReplayPolicy,
    redis: &(impl Reservations + Locks),
    postgres: &(impl ConditionalResources + ResourcesByKey + Histories),
    ids: &impl ResourceIds,
) -> Result<Response, Problem> {
    let ConditionalRequest { customer, key, expected } = conditional;
    let records = Records(key.as_ref().map(|_| redis));
    let has_key = key.is_some();
    let key = key.unwrap_or_else(|| IdempotencyKey::substitute(ids.draw()));
    let scope = scope_of(&resource.collection, customer, key);
    let request = CreateRequest::new(scope, &resource.collection, Document::of(document));
    let created_or_refused = create_on_condition(request, &expected, policy, &records, redis, postgres, ids).await;
    let (creation, state) = created_or_refused.map_err(|error| match error {
        CreateError::Unavailable if !has_key => Problem::UndecidedWithoutKey,
        error => error.into(),
    })?;
    let response = created(resource, &creation, document)?;
    Ok(match state {
        Some(state) => response
            .with(header::ETAG.as_str(), ETag::of_state(&state).to_string())
            .with(header::CACHE_CONTROL.as_str(), "no-transform"),
        None => response,
    })
}

/// The records of keys. A request without a key has none, because no later request could find it. One type serves both
/// kinds, so that the component contains the conditional creation once.
struct Records<'r, S>(Option<&'r S>);

impl<S: Reservations> Reservations for Records<'_, S> {
    async fn reserve(&self, scope: &KeyScope, record: &Record) -> Result<Reservation, ReservationsUnavailable> {
        let records = self.0.ok_or(ReservationsUnavailable)?;
        records.reserve(scope, record).await
    }

    async fn complete(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let records = self.0.ok_or(ReservationsUnavailable)?;
        records.complete(scope, record).await
    }

    async fn withdraw(&self, scope: &KeyScope, record: &Record) -> Result<(), ReservationsUnavailable> {
        let records = self.0.ok_or(ReservationsUnavailable)?;
        records.withdraw(scope, record).await
    }
}

/// The response about a resource that was created or replayed for a request with this document.
///
/// # Errors
/// [`Problem::Unreadable`] when a stored document lacks what a representation needs.
pub fn created(resource: &Resource, creation: &Creation, document: &Value) -> Result<Response, Problem> {
    let id = creation.id();
    let representation = match creation {
        Creation::Created(_) | Creation::Replayed(_) => resource.represent(id, document),
        Creation::Reused(stored) => represent(resource, stored),
    };
    let body = representation.ok_or(Problem::Unreadable)?;
    let location = format!("{}/{id}", resource.collection.path);
    let response = Response::json(StatusCode::CREATED, body).with(header::LOCATION.as_str(), location);
    Ok(match creation {
        Creation::Created(_) => response,
        Creation::Replayed(_) | Creation::Reused(_) => {
            response.with(IDEMPOTENT_REPLAYED, "true").with_outcome(Outcome::Replayed)
        }
    })
}
