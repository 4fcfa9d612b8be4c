//! What a request says in its head, as far as somebody asks.

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// Any that nothing here takes.
    Other,
}

/// A request's fields, asked for by name: there are always some that nobody wants to know.
pub trait Fields {
    /// The values that came under this name (in lower case), in order (RFC 9110 §5.3).
    fn values(&self, name: &str) -> Vec<Vec<u8>>;
}

/// A value as text. What is not ASCII, or cannot be seen, means nothing to us (RFC 9110 §5.5).
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = std::str::from_utf8(value).ok()?;
    value.iter().all(is_text).then_some(text)
}

#[cfg(test)]
impl Fields for &[(&str, &str)] {
    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let named = self.iter().filter(|(other, _)| *other == name);
        named.map(|(_, value)| value.as_bytes().to_vec()).collect()
    }
}
