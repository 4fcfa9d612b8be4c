//! The OpenAPI document compared with the code: its problems and its order; and
//! a running service with the document, by tools that generate requests from it.

mod document;
#[allow(dead_code, reason = "the properties use more of them")]
#[path = "../properties/documents.rs"]
mod documents;
mod problems;
#[allow(dead_code, reason = "the tests over HTTP use more of them")]
#[path = "../api/tokens.rs"]
mod tokens;
mod tools;
