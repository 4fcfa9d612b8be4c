//! The description of a resource's API, made from its table of members: an OpenAPI document, and a page to try it. Both
//! are at the root and below the collection's path, so that several collections can share an address.

use exactly_once::json::to_json;
use exactly_once::{Collection, Resource};
use http::{StatusCode, header};

use crate::head::Method;
use crate::problem::{PROBLEMS, Row, row_text};
use crate::respond::segment_path;
use crate::response::Response;

const PAGE: &str = include_str!("description.html");
const DOCUMENT: &str = include_str!("description.json");

/// The page loads nothing from other hosts.
const POLICY: &str =
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'";

/// Responds to a request for the description. `None` for every other request.
pub(crate) fn describe(resource: &Resource, method: Method, path: &str) -> Option<Response> {
    if !matches!(method, Method::Get | Method::Head) {
        return None;
    }
    match segment_path(path, resource.collection.path).or_else(|| path.strip_prefix('/'))? {
        "" => {
            let page = Response::of_type("text/html; charset=utf-8", StatusCode::OK, page(&resource.collection));
            Some(page.with(header::CONTENT_SECURITY_POLICY.as_str(), POLICY))
        }
        "openapi.json" => Some(Response::json(StatusCode::OK, openapi(resource))),
        _ => None,
    }
}

fn page(collection: &Collection) -> String {
    let mut problems = String::new();
    for row in PROBLEMS.chunk_by(|one, next| one.kind == next.kind).filter_map(<[Row]>::first) {
        let (kind, title) = (row_text(row.kind, collection, "-"), row_text(row.title, collection, " "));
        let status = row.status.as_u16();
        problems += &format!("<tr id=\"{kind}\"><td>{status}</td><td><code>{kind}</code></td><td>{title}</td></tr>\n");
    }
    row_text(PAGE, collection, " ").replace("{problems}", &problems)
}

/// The OpenAPI 3.1 document of a resource's API.
pub fn openapi(resource: &Resource) -> String {
    let id = resource.collection.id_member();
    let (first, rest) = id.trim_end_matches("Id").split_at_checked(1).unwrap_or_default();
    let schema = first.to_ascii_uppercase() + rest;
    let mut schemas = resource.code_schemas();
    schemas.insert(format!("New{schema}"), resource.request_schema());
    schemas.insert(schema.clone(), resource.representation_schema());
    let document = row_text(DOCUMENT, &resource.collection, "_").replace("{schema}", &schema);
    document.replace("{schemas}", &to_json(&schemas))
}

#[cfg(test)]
mod tests {
    use exactly_once::Documentation;
    use exactly_once::members::{code, created_at, id, list, required, text};
    use serde_json::Value;

    use super::*;
    const COLLECTION: Collection = Collection { name: "gift_cards", one: "gift_card", path: "/api/v1/gift-cards" };
    static CARDS: Resource = Resource::new(
        COLLECTION,
        &[
            id("giftCardId"),
            required(
                "lines",
                list(1, 2, &[required("currency", code("Currency", "must be EUR", |code| code == "EUR"))]),
            ),
            required("name", text(1, 9)),
            created_at("createdAt"),
        ],
    )
    .documented(Documentation { description: "/openapi.json", reference: "/" });

    fn get(path: &str) -> Option<Response> {
        describe(&CARDS, Method::Get, path)
    }

    #[test]
    fn a_document_is_json_whose_references_exist() {
        let response = get("/openapi.json").expect("a document");
        assert_eq!(get("/api/v1/gift-cards/openapi.json").as_ref(), Some(&response));
        let document: Value = serde_json::from_str(&response.body).expect("JSON");
        let references = response.body.split("\"$ref\":").skip(1);
        for reference in references.filter_map(|rest| rest.trim_start().strip_prefix("\"#")?.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
        assert!(paths.contains(&&"/api/v1/gift-cards/{giftCardId}".to_owned()), "{paths:?}");
        assert_eq!(document["components"]["schemas"]["Currency"]["description"], "must be EUR");
    }

    #[test]
    fn a_page_has_an_entry_for_each_type_of_problem() {
        let page = get("/").expect("a page");
        assert_eq!(get("/api/v1/gift-cards/").as_ref(), Some(&page));
        for kind in ["gift-card-not-found", "idempotency-key-reused", "unavailable"] {
            assert_eq!(page.body.matches(&format!("id=\"{kind}\"")).count(), 1, "{kind}");
        }
        for left in ["{name}", "{one}", "{path}", "{problems}"] {
            assert!(!page.body.contains(left), "{left}");
        }
        for other in ["/api/v1/gift-cards", "/api/v1/gift-cards/x", "/x", "/healthz"] {
            assert_eq!(get(other), None, "{other}");
        }
    }
}
