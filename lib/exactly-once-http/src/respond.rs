//! From a request's head and body to its response.

use exactly_once::condition::Precondition;
use exactly_once::ports::PageRequest;
use exactly_once::{Collection, Customer, IdempotencyKey, KeyScope, Resource, ResourceId};

use http::{StatusCode, header};

use crate::conditions::refuse_if_none_match;
use crate::creation::{self, CreateOperation};
use crate::feed::{EVENTS, events};
use crate::head::{Body, Head, Method};
use crate::health::{health, readiness};
use crate::host::Host;
use crate::identity::{Identity, Unidentified};
use crate::problem::Problem;
use crate::query::{decoded, page_request};
use crate::reading;
use crate::response::Response;
use crate::settings::Settings;

/// The last segment of the path under which keys are shown, beside the collection.
pub(crate) const KEYS: &str = "idempotency-keys";

/// Responds to a request to the collection of a resource: creates, lists and shows resources, shows keys and the feed,
/// and reports the health of the service.
pub async fn respond(resource: &Resource, head: &impl Head, body: impl Body, host: &impl Host) -> Response {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    #[cfg(feature = "description")]
    if let Some(description) = crate::description::describe(resource, head.method(), path) {
        return description;
    }
    let route = match route(&resource.collection, head.method(), path) {
        // This needs no variable and no store.
        Ok(Route::Health) => return health(),
        route => route,
    };
    let settings = match host.settings().await {
        Ok(settings) => settings,
        Err(problem) => {
            let problem = match route {
                Ok(Route::Readiness) => problem,
                Ok(_) => Problem::Misconfigured,
                Err(problem) => problem,
            };
            return problem.into_response_of(resource);
        }
    };
    if let (Err(Problem::MethodNotAllowed { allow }), Some(origins)) = (&route, &settings.cors_origins)
        && let Some(answer) = origins.preflight(head, allow, &settings.cors_allowed_headers)
    {
        return vary(answer, &settings, false);
    }
    let of_customer = matches!(route, Ok(Route::OfCustomer(_)));
    let answer = match route {
        Ok(route) => answer(resource, route, query, head, body, host, &settings).await,
        Err(problem) => Err(problem),
    };
    // The same request would get the same response again.
    let status = answer.as_ref().map_or_else(Problem::status, |answer| answer.status);
    let answer = match status {
        StatusCode::SERVICE_UNAVAILABLE if host.misconfigured() => Err(match of_customer {
            true => Problem::Misconfigured,
            false => Problem::WrongVariables(vec!["database_allowed_host"]),
        }),
        _ => answer,
    };
    let answer = answer.unwrap_or_else(|problem| problem.into_response_of(resource));
    let answer = match settings.public_base_path.as_str() {
        "" => answer,
        base => answer.below(base),
    };
    let answer = match &settings.cors_origins {
        Some(origins) => origins.share(head, answer),
        None => answer,
    };
    vary(answer, &settings, of_customer)
}

/// A response with the names of the headers that it depends on (RFC 9110 section 12.5.5).
fn vary(answer: Response, settings: &Settings, of_customer: bool) -> Response {
    let origins = settings.cors_origins.as_ref();
    let origin = origins.filter(|origins| origins.vary()).map(|_| "origin");
    let identity = settings.identity.as_ref().filter(|_| of_customer);
    let fields = [origin, identity.and_then(Identity::field)];
    let fields: Vec<&str> = fields.into_iter().flatten().collect();
    match fields.is_empty() {
        true => answer,
        false => answer.with(header::VARY.as_str(), fields.join(", ")),
    }
}

async fn answer(
    resource: &Resource,
    route: Route<'_>,
    query: &str,
    head: &impl Head,
    body: impl Body,
    host: &impl Host,
    settings: &Settings,
) -> Result<Response, Problem> {
    let route = match route {
        Route::Health => return Ok(health()),
        Route::Readiness => {
            // An instance that would reject every request gets no traffic.
            chosen(settings).map_err(|_| Problem::WrongVariables(vec!["identity"]))?;
            return Ok(readiness(query, host, settings).await);
        }
        Route::Feed => return events(resource, query, head, host, settings).await,
        Route::OfCustomer(route) => route,
    };
    let identity = chosen(settings)?;
    let customer = identify(identity, head, host).await?;
    let collection = &resource.collection;
    let operation = admit(collection, route, customer, query, head, settings.precondition)?;
    perform(resource, operation, head, body, host, settings).await
}

/// How customers are identified.
///
/// # Errors
/// `identity` is not set; the log names the variable.
pub fn chosen(settings: &Settings) -> Result<&Identity, Problem> {
    settings.identity().map_err(|error| {
        eprintln!("{error}");
        Problem::Misconfigured
    })
}

/// The operation that a method and a path name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'p> {
    /// Whether the process responds.
    Health,
    /// Whether the stores respond.
    Readiness,
    /// The feed, for the operator's services.
    Feed,
    /// An operation of a customer, which must be identified first.
    OfCustomer(CustomerRoute<'p>),
}

/// The operations of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CustomerRoute<'p> {
    /// `POST` to the collection.
    New,
    /// The list of resources.
    List,
    /// One of them, by the last segment of its path.
    One(&'p str),
    /// A key, by the last segment of its path.
    Key(&'p str),
}

/// The operation of a valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    Create(CreateOperation),
    List(Customer, PageRequest),
    Show(Customer, ResourceId),
    ShowKey(KeyScope),
}

/// Finds the operation of a request.
///
/// # Errors
/// The path is unknown, or does not support the method.
fn route<'p>(collection: &Collection, method: Method, path: &'p str) -> Result<Route<'p>, Problem> {
    let read = |route| match method {
        Method::Get | Method::Head => Ok(route),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    };
    let of_customer = |route| read(Route::OfCustomer(route));
    let beside = beside(collection, path);
    match path {
        "/healthz" => read(Route::Health),
        "/readyz" => read(Route::Readiness),
        _ if beside == Some("healthz") => read(Route::Health),
        _ if beside == Some("readyz") => read(Route::Readiness),
        _ if path == collection.path => match method {
            Method::Post => Ok(Route::OfCustomer(CustomerRoute::New)),
            Method::Get | Method::Head => Ok(Route::OfCustomer(CustomerRoute::List)),
            Method::Options | Method::Other => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        },
        _ if beside == Some(EVENTS) => read(Route::Feed),
        _ => {
            let key = || segment_below(beside?, KEYS);
            match (segment_below(path, collection.path), key()) {
                (Some(id), _) => of_customer(CustomerRoute::One(id)),
                (None, Some(key)) => of_customer(CustomerRoute::Key(key)),
                (None, None) => Err(Problem::UnknownPath),
            }
        }
    }
}

/// The path without the segments that it shares with the collection's: health, keys and feed are beside the collection.
/// They are below it as well, so that several collections can share an address.
#[inline(never)]
pub(crate) fn beside<'p>(collection: &Collection, path: &'p str) -> Option<&'p str> {
    let (parent, _) = collection.path.rsplit_once('/').unwrap_or_default();
    let below = segment_path(path, collection.path)
        .filter(|below| matches!(*below, "healthz" | "readyz" | EVENTS) || segment_below(below, KEYS).is_some());
    below.or_else(|| segment_path(path, parent))
}

/// The path without the segments of its parent.
pub(crate) fn segment_path<'p>(path: &'p str, parent: &str) -> Option<&'p str> {
    path.strip_prefix(parent)?.strip_prefix('/')
}

/// The one segment that follows.
pub(crate) fn segment_below<'p>(path: &'p str, start: &str) -> Option<&'p str> {
    let segment = segment_path(path, start)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

/// Identifies the customer before anything else is validated.
///
/// # Errors
/// The request identifies no customer, or the keys of tokens could not be fetched.
pub async fn identify(identity: &Identity, head: &impl Head, host: &impl Host) -> Result<Customer, Problem> {
    let values = identity.field().map(|name| head.values(name)).unwrap_or_default();
    let identified = || identity.customer(values.iter().map(Vec::as_slice), || host.unix_seconds());
    let customer = match (identified(), identity) {
        (Err(Unidentified::UnknownKey), Identity::Jwt(rules)) if rules.keys.can_be_renewed() => {
            if !rules.keys.renew(host.now(), async |url| host.fetch(url).await).await {
                return Err(Problem::KeysUnavailable);
            }
            identified()
        }
        (customer, _) => customer,
    };
    customer.map_err(Problem::Unidentified)
}

/// Validates the rest of the head.
///
/// # Errors
/// The problem, if the request can be rejected without its body and without a store.
fn admit(
    collection: &Collection,
    route: CustomerRoute,
    customer: Customer,
    query: &str,
    head: &impl Head,
    precondition: Precondition,
) -> Result<Operation, Problem> {
    match route {
        CustomerRoute::New => creation::read_head(collection, customer, head, precondition).map(Operation::Create),
        CustomerRoute::List => {
            let page = page_request(query).map_err(Problem::Query)?;
            Ok(Operation::List(customer, page))
        }
        CustomerRoute::One(id) => {
            ResourceId::parse(id).map(|id| Operation::Show(customer, id)).ok_or(Problem::NotFound)
        }
        CustomerRoute::Key(key) => {
            let key = IdempotencyKey::from_chars(decoded(key)).ok_or(Problem::KeyNotFound)?;
            Ok(Operation::ShowKey(KeyScope { collection: collection.name, customer, key }))
        }
    }
}

async fn perform(
    resource: &Resource,
    operation: Operation,
    head: &impl Head,
    body: impl Body,
    host: &impl Host,
    settings: &Settings,
) -> Result<Response, Problem> {
    match operation {
        Operation::Create(operation) => {
            let body = creation::read_json(head, body).await?;
            let (redis, postgres) = (host.redis(settings), host.postgres(settings));
            let (policy, ids) = (settings.replay_policy, host.ids());
            let (scope, problem) = match (resource.validate(&body), operation) {
                (Ok(document), CreateOperation::Unconditional(scope)) => {
                    refuse_if_none_match(head)?;
                    return creation::create(resource, scope, &document, policy, &redis, &postgres, ids).await;
                }
                (Ok(document), CreateOperation::Conditional(request)) => {
                    // Only for a request that is valid otherwise (RFC 9110 section 13.2.1).
                    refuse_if_none_match(head)?;
                    return creation::create_conditionally(
                        resource, request, &document, policy, &redis, &postgres, ids,
                    )
                    .await;
                }
                (Ok(_), CreateOperation::WithoutCondition(scope)) => (Some(scope), Problem::PreconditionRequired),
                (Err(violations), operation) => (operation.scope(&resource.collection), Problem::Invalid(violations)),
            };
            creation::replay_or_refuse(resource, scope, &body, problem, policy, &postgres).await
        }
        Operation::List(customer, page) => {
            reading::list(resource, &customer, page, head, &host.postgres(settings)).await
        }
        Operation::Show(customer, id) => reading::show(resource, &customer, id, head, &host.postgres(settings)).await,
        Operation::ShowKey(scope) => {
            let (redis, postgres) = (host.redis(settings), host.postgres(settings));
            reading::show_key(&resource.collection, &scope, head, &redis, &postgres).await
        }
    }
}

#[cfg(test)]
mod tests;
