//! `allowed_outbound_hosts`: the hosts that a component may connect to. All others are rejected, as in Spin.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ip_network::IpNetwork;

/// The entries of one component.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    entries: Vec<Entry>,
    /// Whether the component may send requests to its own application.
    own_application: bool,
}

/// The entry that allows requests to the application itself.
const OWN_APPLICATION: [&str; 2] = ["http://self", "https://self"];

#[derive(Clone, Debug)]
struct Entry {
    /// `None` is any scheme.
    scheme: Option<String>,
    host: HostRule,
    ports: PortRule,
}

#[derive(Clone, Debug)]
enum HostRule {
    Any,
    Subdomain(String),
    Exact(String),
    Network(IpNetwork),
}

#[derive(Clone, Debug)]
enum PortRule {
    Any,
    /// From the first up to, but not including, the second.
    Range(u16, u16),
    Exact(u16),
}

impl AllowedHosts {
    /// Parses entries whose templates are resolved. An empty entry allows nothing.
    pub fn parse(entries: &[String]) -> Result<Self> {
        let is_own = |entry: &&String| OWN_APPLICATION.contains(&entry.as_str());
        let parsed = entries
            .iter()
            .filter(|entry| !entry.is_empty() && !is_own(entry))
            .map(|entry| {
                Entry::parse(entry)
                    .with_context(|| format!("allowed_outbound_hosts: {entry:?} is not scheme://host[:port]"))
            })
            .collect::<Result<_>>()?;
        Ok(Self { entries: parsed, own_application: entries.iter().any(|entry| is_own(&entry)) })
    }

    /// Whether the component may send requests to its own application.
    pub fn allow_own_application(&self) -> bool {
        self.own_application
    }

    /// Whether a connection may be opened.
    pub fn allow(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let Some(port) = port.or_else(|| default_port(scheme)) else {
            return false;
        };
        self.entries.iter().any(|entry| {
            entry.scheme.as_deref().is_none_or(|s| s == scheme) && entry.host.matches(host) && entry.ports.matches(port)
        })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "postgres" => Some(5432),
        "redis" => Some(6379),
        _ => None,
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.trim().split_once("://").context("no scheme")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 network contains colons that do not start a port.
        let (host, ports) = match rest.rsplit_once(':') {
            Some((host, port)) if rest.parse::<IpNetwork>().is_err() => (host, PortRule::parse(port)?),
            _ => {
                let port = default_port(scheme).context("no port, and the scheme has no default port")?;
                (rest, PortRule::Exact(port))
            }
        };
        Ok(Self { scheme: (scheme != "*").then(|| scheme.to_owned()), host: HostRule::parse(host)?, ports })
    }
}

impl HostRule {
    fn parse(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Ok(network) = IpNetwork::from_str_truncate(text) {
            return Ok(Self::Network(network));
        }
        if let Some(domain) = text.strip_prefix("*.") {
            return Ok(Self::Subdomain(format!(".{}", domain.to_lowercase())));
        }
        if text.is_empty() || text.contains(['*', '/', '{']) {
            bail!("not a host");
        }
        Ok(Self::Exact(bare(text)))
    }

    fn matches(&self, host: &str) -> bool {
        let host = bare(host);
        match self {
            Self::Any => true,
            Self::Subdomain(suffix) => host.ends_with(suffix),
            Self::Exact(exact) => host == *exact,
            Self::Network(network) => host.parse::<IpAddr>().is_ok_and(|ip| network.contains(ip)),
        }
    }
}

/// Lower case, and without the brackets of an IPv6 address.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_lowercase()
}

impl PortRule {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text.split_once("..") {
            _ if text == "*" => Self::Any,
            Some((from, to)) => Self::Range(from.parse()?, to.parse()?),
            None => Self::Exact(text.parse()?),
        })
    }

    fn matches(&self, port: u16) -> bool {
        match *self {
            Self::Any => true,
            Self::Range(from, to) => (from..to).contains(&port),
            Self::Exact(exact) => port == exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, scheme: &str, host: &str, port: Option<u16>) -> bool {
        AllowedHosts::parse(&[entry.to_owned()]).expect("valid").allow(scheme, host, port)
    }

    #[test]
    fn an_entry_allows_what_it_says_and_no_more() {
        for (entry, scheme, host, port, allowed) in [
            ("redis://localhost:6379", "redis", "localhost", Some(6379), true),
            ("redis://localhost", "redis", "LOCALHOST", None, true),
            ("redis://localhost:6379", "redis", "localhost", Some(6380), false),
            ("redis://localhost:6379", "postgres", "localhost", Some(6379), false),
            ("redis://localhost:6379", "redis", "evil", Some(6379), false),
            ("redis://*:*", "redis", "anything", Some(1), true),
            ("*://*:*", "postgres", "anything", Some(1), true),
            ("postgres://*.example.com:5432", "postgres", "db.example.com", None, true),
            ("postgres://*.example.com:5432", "postgres", "example.com", None, false),
            ("postgres://127.0.0.0/8:5000..6000", "postgres", "127.1.2.3", Some(5999), true),
            ("postgres://127.0.0.0/8:5000..6000", "postgres", "127.1.2.3", Some(6000), false),
            ("postgres://10.0.0.0/8", "postgres", "127.0.0.1", None, false),
        ] {
            assert_eq!(allows(entry, scheme, host, port), allowed, "{entry} {host}");
        }
        assert!(!allows("", "redis", "localhost", None));
        let of = |entry: &str| AllowedHosts::parse(&[entry.to_owned()]).expect("valid");
        assert!(of("http://self").allow_own_application());
        assert!(!of("http://self:80").allow_own_application());
    }

    #[test]
    fn nonsense_is_refused() {
        for entry in ["*", "localhost:1", "redis://", "redis://a:b", "redis://a*b:1", "http2://x"] {
            assert!(AllowedHosts::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
