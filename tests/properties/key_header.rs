//! The `Idempotency-Key` field: any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::checks;

/// Bytes of which many make keys: mostly visible, often with quotation marks and backslashes, often around
/// the limit.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = || {
        prop_oneof![
            20 => 0x21..=0x7e_u8,
            4 => select(b"\"\\,".to_vec()),
            1 => any::<u8>(),
        ]
    };
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(byte(), 0..12),
        vec(0x21..=0x7e_u8, 250..260),
        vec(byte(), 0..8).prop_map(|inner| [b" \t\"", &inner[..], b"\" "].concat()),
        vec(0x21..=0x7e_u8, 250..260).prop_map(|key| checks::quote(&key)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_value_is_a_key_exactly_if_it_is_1_to_255_visible_characters(value in field_value()) {
        checks::key_header(&value);
    }

    #[test]
    fn several_values_are_a_key_exactly_if_all_are_that_key(
        values in vec(field_value(), 0..3),
        repeated in 0..3_usize,
        quoted in any::<bool>(),
        joined in any::<bool>(),
    ) {
        let mut values = values;
        if let Some(first) = values.first().cloned() {
            let again = if quoted { checks::quote(first.trim_ascii()) } else { first };
            values.truncate(3 - repeated);
            values.extend(vec![again; repeated]);
        }
        if joined {
            values = vec![values.join(&b','), values.join(&b", "[..])];
        }
        checks::key_headers(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}
