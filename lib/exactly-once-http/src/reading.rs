//! Reading resources, pages of them, and the state of keys over HTTP.

use exactly_once::json::to_json;
use exactly_once::key_state::{KeyState, key_state};
use exactly_once::ports::{PageRequest, RecordLookup, ResourceLists, ResourcesByKey, StoredResource};
use exactly_once::{Collection, Customer, KeyScope, Resource, ResourceId};
use http::{StatusCode, header};

use crate::conditions::check_if_match;
use crate::etag::ETag;
use crate::head::Head;
use crate::problem::Problem;
use crate::query::{QueryError, following};
use crate::response::Response;

/// Responds to a request for one resource.
///
/// # Errors
/// The customer has no such resource, `If-Match` names another tag, the document is unreadable, or the store does not
/// respond.
pub async fn show(
    resource: &Resource,
    customer: &Customer,
    id: ResourceId,
    head: &impl Head,
    resources: &impl ResourceLists,
) -> Result<Response, Problem> {
    let stored = resources.find(customer, id).await?;
    let stored = stored.ok_or(Problem::NotFound)?;
    let body = represent(resource, &stored).ok_or(Problem::Unreadable)?;
    let etag = ETag::of_representation(&body);
    Response::json(StatusCode::OK, body).if_expected(&etag, head)
}

/// Responds to a request for a page of a customer's resources. The tag is that of the whole list: it says on every page
/// whether anything has changed. The body has it, too, because proxies that compress a response change its tag.
///
/// # Errors
/// The cursor is not one of this customer's, `If-Match` names another state of the list, or the store does not respond.
pub async fn list(
    resource: &Resource,
    customer: &Customer,
    request: PageRequest,
    head: &impl Head,
    resources: &impl ResourceLists,
) -> Result<Response, Problem> {
    let page = resources.page(customer, request).await?;
    let page = page.ok_or(Problem::Query(QueryError::Cursor))?;
    let collection = &resource.collection;
    let next = match page.resources.last() {
        Some(last) if page.more => Some(format!("{}?{}", collection.path, following(&request, last.id))),
        _ => None,
    };
    let one =
        |stored: &StoredResource| represent(resource, stored).unwrap_or_else(|| unreadable(collection, stored.id));
    let all: Vec<String> = page.resources.iter().map(one).collect();
    let (name, all, state) = (collection.name, all.join(","), page.state);
    let body = format!(r#"{{"{name}":[{all}],"state":"{state}","next":{}}}"#, to_json(&next));
    let mut answer = Response::json(StatusCode::OK, body);
    if let Some(next) = next {
        answer = answer.with(header::LINK.as_str(), format!("<{next}>; rel=\"next\""));
    }
    let etag = ETag::of_state(&page.state);
    answer.if_expected(&etag, head)
}

/// Responds to a request for the state of a key. The response contains nothing of the request that used the key.
///
/// # Errors
/// No request with the key is known, `If-Match` names a tag (the response has none), or the store that decides does not
/// respond.
pub async fn show_key(
    collection: &Collection,
    scope: &KeyScope,
    head: &impl Head,
    records: &impl RecordLookup,
    resources: &impl ResourcesByKey,
) -> Result<Response, Problem> {
    let state = key_state(scope, records, resources).await?;
    let key = to_json(&scope.key.as_str());
    let state = state.ok_or(Problem::KeyNotFound)?;
    check_if_match(head, None)?;
    let body = match state {
        KeyState::InProgress => format!(r#"{{"key":{key},"state":"in_progress"}}"#),
        KeyState::Completed(id) => format!(
            r#"{{"key":{key},"state":"completed","{}":"{id}","createdAt":"{}"}}"#,
            collection.id_member(),
            id.created_at()
        ),
    };
    Ok(Response::json(StatusCode::OK, body).with(header::CACHE_CONTROL.as_str(), "no-store"))
}

/// The representation of a stored resource; `None` when this release cannot read its document.
pub fn represent(resource: &Resource, stored: &StoredResource) -> Option<String> {
    resource.represent(stored.id, &stored.document.value())
}

/// Stands in a page for a resource whose document is unreadable. The page stays complete, and its other resources stay
/// readable.
pub(crate) fn unreadable(collection: &Collection, id: ResourceId) -> String {
    let member = collection.id_member();
    format!(r#"{{"{member}":"{id}","status":"unreadable","createdAt":"{}"}}"#, id.created_at())
}
