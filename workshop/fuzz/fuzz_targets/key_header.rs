//! Any bytes as `Idempotency-Key`: the whole input as the value of one header, its lines as several.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orders_fuzz::checks;

fuzz_target!(|input: &[u8]| {
    checks::key_header(input);
    checks::key_header(&checks::quote(input));
    let lines: Vec<_> = input.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        checks::key_header(line);
    }
    checks::key_headers(&lines);
});
