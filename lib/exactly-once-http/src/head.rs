//! A request: a head, whose parts are asked for one by one, and a body, which is read at most once.

/// The longest request body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The methods that the API distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `OPTIONS`
    Options,
    /// Any other.
    Other,
}

/// A request's head. Each part is asked for only when it is needed: on a Wasm host each is a call.
pub trait Head {
    /// The method.
    fn method(&self) -> Method;

    /// Path and query (RFC 9110 section 7.1).
    fn target(&self) -> String;

    /// The values of all headers with this name (in lower case), in order (RFC 9110 section 5.3).
    fn values(&self, name: &str) -> Vec<Vec<u8>>;
}

/// A request's body.
#[allow(async_fn_in_trait, reason = "the callers are generic and single-threaded; none needs a Send bound")]
pub trait Body {
    /// Reads the whole body, at most `limit` bytes, within a time that the implementation sets. `declared` is its
    /// length in bytes according to the head: with `Transfer-Encoding`, the body may be longer (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// [`BodyError`] when the body is too long, incomplete or late.
    async fn read(self, declared: Option<u64>, limit: usize) -> Result<Vec<u8>, BodyError>;
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// It ended before it was complete.
    Truncated,
    /// It did not arrive in time.
    TimedOut,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large",
            Self::Truncated => "the body is incomplete",
            Self::TimedOut => "the body did not arrive in time",
        })
    }
}

impl std::error::Error for BodyError {}

/// A value as text. A value with characters other than visible ASCII, spaces and tabs has no meaning here (RFC 9110
/// section 5.5).
pub fn text(value: &[u8]) -> Option<&str> {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = std::str::from_utf8(value).ok()?;
    value.iter().all(is_text).then_some(text)
}

/// A head in memory, for tests.
#[cfg(test)]
pub struct TestHead<'t> {
    pub method: Method,
    pub target: &'t str,
    pub fields: &'t [(&'t str, &'t str)],
}

#[cfg(test)]
impl Head for TestHead<'_> {
    fn method(&self) -> Method {
        self.method
    }

    fn target(&self) -> String {
        self.target.to_owned()
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let named = self.fields.iter().filter(|(other, _)| *other == name);
        named.map(|(_, value)| value.as_bytes().to_vec()).collect()
    }
}
