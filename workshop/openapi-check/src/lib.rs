//! Compares an API's responses with those that its OpenAPI 3.1 document has, and finds the tools that do more of
//! this ([`tools`]).

mod document;
pub mod tools;

pub use document::{Answer, Document};
