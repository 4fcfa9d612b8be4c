//! Bytes as lower-case hexadecimal. It does without `core::fmt`, which would cost more time than everything else that a
//! request prints.

/// Two digits per byte.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
