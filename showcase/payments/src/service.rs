//! The routes of payments. Customers have `/api/v1/billing`. All others are the operator's: the puller delivers events,
//! a bank's gateway makes deposits.

use cloudevents::money::{self, CURRENCY};
use cloudevents::{MEDIA_TYPE, Refusal, handshake, read_event};
use exactly_once::create::{CreateRequest, Creation, create};
use exactly_once::key::KeyError;
use exactly_once::ports::ResourceIds;
use exactly_once::{Customer, Document, IdempotencyKey, KeyScope, ResourceId};
use exactly_once_http::{
    Body, Head, Host, IDEMPOTENT_REPLAYED, Method, Outcome, Problem, QueryError, Response, admit, chosen, decoded,
    health, identify, read_document, read_key, readiness, represent,
};
use exactly_once_spin::SpinHost;
use exactly_once_stores::sql::{Parameter, Statement};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{Charge, DEPOSIT_COLLECTION, DEPOSITS, PAID_IN, PAYMENTS, Payment, deposit_of};

const ACCOUNTS: &str = "/api/v1/accounts/";
const BILLING: &str = "/api/v1/billing/";

/// Answers a request.
async fn respond(head: &impl Head, body: impl Body, host: &SpinHost) -> Response {
    let answer = answer(head, body, host).await;
    let is_deposit = [ACCOUNTS, BILLING].iter().any(|path| head.target().starts_with(path));
    let collection = if is_deposit { &DEPOSIT_COLLECTION } else { &PAYMENTS };
    answer.unwrap_or_else(|problem| problem.into_response(collection))
}

async fn answer(head: &impl Head, body: impl Body, host: &SpinHost) -> Result<Response, Problem> {
    let target = head.target();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    if path == PAYMENTS.path
        && let Some(response) = handshake(head)
    {
        return Ok(response);
    }
    match (head.method(), path) {
        (Method::Get | Method::Head, "/healthz") => return Ok(health()),
        (Method::Get | Method::Head, "/readyz") => {
            let settings = host.settings().await?;
            return Ok(readiness(query, host, &settings).await);
        }
        (method, path) if path.starts_with(BILLING) => return billing(method, path, head, body, host).await,
        _ => admit(&host.variable("operator_token").await?, head)?,
    }
    if let Some(account) = path.strip_prefix(ACCOUNTS) {
        return match (head.method(), account.split_once('/')) {
            (Method::Get | Method::Head, None) => show_account(customer(account)?, host).await,
            (Method::Post, Some((account, "deposits"))) => {
                let (customer, key) = (customer(account)?, read_key(head)?);
                let document = read_document(&DEPOSITS, head, body).await?;
                let (is_new, deposit) = deposit(customer, key, &document, host).await?;
                Ok(repeated_unless(is_new, Response::json(StatusCode::CREATED, deposit)))
            }
            (_, None) => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
            (_, Some((_, "deposits"))) => Err(Problem::MethodNotAllowed { allow: "POST" }),
            _ => Err(Problem::UnknownPath),
        };
    }
    let one = path.strip_prefix(PAYMENTS.path).and_then(|rest| rest.strip_prefix('/'));
    match (head.method(), one) {
        (Method::Post, None) if path == PAYMENTS.path => pay(head, body, host).await,
        (_, None) if path == PAYMENTS.path => Err(Problem::MethodNotAllowed { allow: "POST" }),
        (Method::Get | Method::Head, Some(id)) => show_payment(id, host).await,
        (_, Some(_)) => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
        _ => Err(Problem::UnknownPath),
    }
}

/// The customer's own account, in whole units. A deposit without a key cannot be repeated.
async fn billing(
    method: Method,
    path: &str,
    head: &impl Head,
    body: impl Body,
    host: &SpinHost,
) -> Result<Response, Problem> {
    let settings = host.settings().await?;
    let customer = async || identify(chosen(&settings)?, head, host).await;
    match (method, path) {
        (Method::Get | Method::Head, "/api/v1/billing/account") => {
            let balances = balances(&customer().await?, host).await?;
            let balance = balances.get(CURRENCY).and_then(Value::as_i64).unwrap_or(0);
            let body = json!({"amount": money::units(balance)}).to_string();
            Ok(Response::json(StatusCode::OK, body).with("cache-control", "no-store"))
        }
        (Method::Post, "/api/v1/billing/account/deposit") => {
            let customer = customer().await?;
            let key = match read_key(head) {
                Err(Problem::Key(KeyError::Missing)) => None,
                key => Some(key?),
            };
            let document = deposit_of(&read_document(&PAID_IN, head, body).await?).ok_or(Problem::Unreadable)?;
            let has_key = key.is_some();
            let key = key.unwrap_or_else(|| IdempotencyKey::substitute(host.ids().draw()));
            let (is_new, _) = deposit(customer, key, &document, host).await.map_err(|problem| match problem {
                Problem::CreationUndecided if !has_key => Problem::UndecidedWithoutKey,
                problem => problem,
            })?;
            let mut response = repeated_unless(is_new, Response::json(StatusCode::NO_CONTENT, String::new()));
            response.headers.retain(|(name, _)| *name != "content-type");
            Ok(response)
        }
        (_, "/api/v1/billing/account") => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
        (_, "/api/v1/billing/account/deposit") => Err(Problem::MethodNotAllowed { allow: "POST" }),
        _ => Err(Problem::UnknownPath),
    }
}

/// Takes the event of an order and responds with the event of its payment: the same one for each delivery.
async fn pay(head: &impl Head, body: impl Body, host: &SpinHost) -> Result<Response, Problem> {
    let event = read_event(head, body).await?;
    let charge = event.map_err(Refusal::NotAnEvent).and_then(|event| Charge::of(&event));
    let charge = match charge {
        Ok(charge) => charge,
        Err(refusal) => return Ok(refusal.into_response(&PAYMENTS)),
    };
    let payment = one_payment(charge.statement(), host).await?;
    let payment = payment.ok_or(Problem::DatabaseUnavailable)?;
    if !charge.is_of(&payment) {
        return Ok(Refusal::Contradiction.into_response(&PAYMENTS));
    }
    let answer = Response::of_type(MEDIA_TYPE, StatusCode::CREATED, payment.event().to_json());
    Ok(repeated_unless(payment.is_new, answer))
}

/// Marks the response to a request that had its effect before.
fn repeated_unless(is_new: bool, answer: Response) -> Response {
    match is_new {
        true => answer,
        false => answer.with(IDEMPOTENT_REPLAYED, "true").with_outcome(Outcome::Replayed),
    }
}

async fn show_payment(id: &str, host: &SpinHost) -> Result<Response, Problem> {
    let id = ResourceId::parse(id).ok_or(Problem::NotFound)?;
    let statement = Statement {
        sql: "SELECT order_id::text, customer_id, currency, amount::text, refusal, false AS is_new, \
              to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS decided_at \
              FROM payments WHERE order_id = $1::text::uuid",
        parameters: vec![Parameter::Text(id.to_string())],
    };
    let payment = one_payment(statement, host).await?;
    let payment = payment.ok_or(Problem::NotFound)?;
    Ok(Response::json(StatusCode::OK, payment.event().data.to_string()))
}

async fn one_payment(statement: Statement<'_>, host: &SpinHost) -> Result<Option<Payment>, Problem> {
    let settings = host.settings().await?;
    let rows = host.postgres(&settings).rows(statement).await?;
    let payment = rows.first().map(Payment::read);
    payment.map(|payment| payment.ok_or(Problem::Unreadable)).transpose()
}

async fn show_account(customer: Customer, host: &SpinHost) -> Result<Response, Problem> {
    let balances = balances(&customer, host).await?;
    let body = json!({"customer": customer.as_str(), "balances": balances}).to_string();
    Ok(Response::json(StatusCode::OK, body).with("cache-control", "no-store"))
}

/// The balances of a customer, by currency. Without a deposit there are none.
async fn balances(customer: &Customer, host: &SpinHost) -> Result<Value, Problem> {
    let statement = Statement {
        sql: "SELECT coalesce(json_object_agg(currency, balance ORDER BY currency), '{}')::text AS balances \
              FROM accounts WHERE customer_id = $1",
        parameters: vec![Parameter::Text(customer.as_str().to_owned())],
    };
    let settings = host.settings().await?;
    let rows = host.postgres(&settings).rows(statement).await?;
    let balances = rows.first().and_then(|row| row.text("balances"));
    balances.and_then(|text| serde_json::from_str(&text).ok()).ok_or(Problem::Unreadable)
}

/// Creates a deposit as any resource; the trigger of its table credits the account. Returns whether it is new, and its
/// representation.
async fn deposit(
    customer: Customer,
    key: IdempotencyKey,
    deposit: &Value,
    host: &SpinHost,
) -> Result<(bool, String), Problem> {
    let scope = KeyScope { collection: DEPOSIT_COLLECTION.name, customer, key };
    let request = CreateRequest::new(scope, &DEPOSIT_COLLECTION, Document::of(deposit));
    let settings = host.settings().await?;
    let (redis, postgres) = (host.redis(&settings), host.postgres(&settings));
    let policy = settings.replay_policy;
    let creation = create(request, policy, &redis, &postgres, host.ids()).await?;
    let (representation, is_new) = match creation {
        Creation::Created(id) => (DEPOSITS.represent(id, deposit), true),
        Creation::Replayed(id) => (DEPOSITS.represent(id, deposit), false),
        Creation::Reused(stored) => (represent(&DEPOSITS, &stored), false),
    };
    Ok((is_new, representation.ok_or(Problem::Unreadable)?))
}

/// The customer in a path.
fn customer(segment: &str) -> Result<Customer, Problem> {
    let name = String::from_utf8(decoded(segment)).ok();
    name.and_then(Customer::named).ok_or(Problem::Query(QueryError::Parameter {
        name: "the customer",
        rule: "must be a name of 1 to 128 characters",
    }))
}

exactly_once_spin::component!(DEPOSIT_COLLECTION, respond);
