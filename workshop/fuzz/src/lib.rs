//! What the fuzz targets assert: the same as the property tests.

#[path = "../../../tests/properties/checks.rs"]
pub mod checks;
#[path = "../../../tests/properties/spelling.rs"]
pub mod spelling;
