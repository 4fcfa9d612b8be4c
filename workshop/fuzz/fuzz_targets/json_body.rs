//! Any bytes as a request's body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orders_fuzz::checks;

fuzz_target!(|body: &[u8]| checks::json_body(body));
