//! Reading orders, pages of them, and the state of keys over HTTP.

use http::{StatusCode, header};
use serde::Serialize;

use super::etag::ETag;
use super::query::QueryError;
use super::{Fields, ORDERS, PageRequest, Problem, Response};
use crate::customer::Customer;
use crate::error::OrdersUnavailable;
use crate::idempotency::Slot;
use crate::json::to_json;
use crate::order::{OrderId, representation};
use crate::ports::{OrderLists, Orders, OrdersByKey, StoredOrder, Traces};
use crate::reading::{KeyState, key_state};

impl From<OrdersUnavailable> for Problem {
    fn from(OrdersUnavailable: OrdersUnavailable) -> Self {
        Self::OrdersUnavailable
    }
}

/// Answers a request for one order.
///
/// # Errors
/// Not found, also when it is another customer's; or the store does not answer.
pub async fn show(
    customer: &Customer,
    id: OrderId,
    fields: &impl Fields,
    orders: &impl Orders,
) -> Result<Response, Problem> {
    let order = orders.find(customer, id).await?;
    let order = order.ok_or(Problem::OrderNotFound)?;
    let body = represent(&order);
    let etag = ETag::of_representation(&body);
    Ok(Response::json(StatusCode::OK, body).unless_known(&etag, fields))
}

/// Answers a request for some of a customer's orders. The tag is that of the whole list: it tells on every
/// page whether anything has changed.
///
/// # Errors
/// The cursor is none of this customer's; or the store does not answer.
pub async fn list(
    customer: &Customer,
    request: PageRequest,
    fields: &impl Fields,
    orders: &impl OrderLists,
) -> Result<Response, Problem> {
    let page = orders.page(customer, request.after, request.limit).await?;
    let page = page.ok_or(Problem::Query(QueryError::Cursor))?;
    let next = match page.orders.last() {
        Some(last) if page.more => Some(format!("{ORDERS}?{}", request.following(last.order_id))),
        _ => None,
    };
    let orders: Vec<String> = page.orders.iter().map(represent).collect();
    let next_json = to_json(&next);
    let body = format!(r#"{{"orders":[{}],"next":{next_json}}}"#, orders.join(","));
    let mut answer = Response::json(StatusCode::OK, body);
    if let Some(next) = next {
        answer = answer.with(header::LINK.as_str(), format!("<{next}>; rel=\"next\""));
    }
    let etag = ETag::of_state(&page.state);
    Ok(answer.unless_known(&etag, fields))
}

/// Answers what has become of a key. Says nothing of what was asked for with it.
///
/// # Errors
/// Nothing is known of the key; or the store that decides does not answer.
pub async fn show_key(
    slot: &Slot,
    traces: &impl Traces,
    orders: &impl OrdersByKey,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct KeyDocument<'a> {
        key: &'a str,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        order_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<String>,
    }

    let state = key_state(slot, traces, orders).await?;
    let (state, order) = match state.ok_or(Problem::KeyNotFound)? {
        KeyState::InProgress => ("in_progress", None),
        KeyState::Completed(id) => ("completed", Some(id)),
    };
    let body = to_json(&KeyDocument {
        key: slot.key.as_str(),
        state,
        order_id: order.map(|id| id.to_string()),
        created_at: order.map(|id| id.created_at()),
    });
    Ok(Response::json(StatusCode::OK, body).with(header::CACHE_CONTROL.as_str(), "no-store"))
}

fn represent(order: &StoredOrder) -> String {
    representation(&order.order_id, &order.draft)
}
