//! Compares an API with its OpenAPI 3.1 document: answers with the responses that it documents, examples with their
//! schemas. Runs the tools that do more of this ([`tools`]).

mod document;
pub mod tools;
mod wildcards;

pub use document::{Answer, Document};
pub use wildcards::{form, same_shape};
