//! Redis Cluster: which node has a key. A node that does not have it names the one that has (`MOVED`). The other keys
//! are looked for where the nearest slot is known to be, because a node has ranges of slots: so few commands are
//! redirected, and no other command is needed.

use super::Command;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// How many slots are remembered. More are needed only where a node's slots are scattered.
const REMEMBERED: usize = 256;

/// Where slots are, as nodes have said; empty with a Redis that is no cluster.
pub struct Slots<N>(Vec<(u16, N)>);

impl<N> Default for Slots<N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N> Slots<N> {
    /// The node that most likely has the command's key.
    pub fn guess(&self, command: &Command) -> Option<&N> {
        if self.0.is_empty() {
            return None;
        }
        let slot = slot_of(command.key());
        self.0.iter().min_by_key(|(known, _)| known.abs_diff(slot)).map(|(_, node)| node)
    }

    /// A node has the command's key.
    pub fn learn(&mut self, command: &Command, node: N) {
        let slot = slot_of(command.key());
        if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| *known == slot) {
            *old = node;
            return;
        }
        if self.0.len() == REMEMBERED {
            // The oldest one: a cluster moves slots.
            self.0.remove(0);
        }
        self.0.push((slot, node));
    }
}

/// The address of a node in an error of Redis of this kind, as the driver of hosts puts it: `An error was signalled by
/// the server - Moved: 3999 127.0.0.1:6381`.
pub fn redirection<'e>(error: &'e str, kind: &str) -> Option<&'e str> {
    let (rest, address) = error.rsplit_once(' ')?;
    let (rest, _slot) = rest.rsplit_once(' ')?;
    rest.ends_with(kind).then_some(address)
}

/// The key is at another node from now on.
pub const MOVED: &str = "Moved:";

/// The key is being moved: this node does not have it any more, or not yet.
pub const ASK: &str = "Ask:";

/// The URL of the node at an address: with the scheme, the user and the password of the node that named it, and with
/// its host where the address has none (`:6381`). Redis puts no brackets around an IPv6 address.
pub fn url_at(other: &str, address: &str) -> Option<String> {
    let host_at = other.rfind('@').map(|at| at + 1).or(other.find("://").map(|at| at + 3))?;
    let (start, authority) = other.split_at_checked(host_at)?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        "" => host_of(authority),
        host if host.contains(':') => &format!("[{host}]"),
        host => host,
    };
    Some(format!("{start}{host}:{port}"))
}

/// The host of what follows the user in a URL.
fn host_of(authority: &str) -> &str {
    let end = authority.find('/').unwrap_or(authority.len());
    let authority = authority.get(..end).unwrap_or(authority);
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => authority.get(..colon).unwrap_or(authority),
        _ => authority,
    }
}

/// CRC-16 (XMODEM) of a key, or of what is between its first braces.
fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let (_, rest) = split(key, b'{')?;
        split(rest, b'}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
    };
    let crc = tag().unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc >> 15 == 1 { crc << 1 ^ 0x1021 } else { crc << 1 })
    });
    crc % SLOTS
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..index)?, bytes.get(index + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_redis() {
        for (key, slot) in [
            ("123456789", 0x31c3),
            ("foo", 12182),
            ("a{foo}b{bar}", 12182),
            ("{}foo", slot_of(b"{}foo")),
            ("{foo", slot_of(b"{foo")),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"{}foo"), slot_of(b""));
    }

    #[test]
    fn a_redirection_names_a_node() {
        let error = "An error was signalled by the server - Moved: 3999 127.0.0.1:6381";
        assert_eq!(redirection(error, MOVED), Some("127.0.0.1:6381"));
        assert_eq!(redirection(error, ASK), None);
        assert_eq!(redirection("An error was signalled by the server - ClusterDown: no", MOVED), None);
        for (other, address, url) in [
            ("redis://a:1/0", "b:2", Some("redis://b:2")),
            ("rediss://u:p@w@a:1", "b:2", Some("rediss://u:p@w@b:2")),
            ("redis://a:1", "::1:2", Some("redis://[::1]:2")),
            ("redis://p@[::1]:1/0", ":2", Some("redis://p@[::1]:2")),
            ("redis://a", ":2", Some("redis://a:2")),
            ("redis://[::1]", ":2", Some("redis://[::1]:2")),
            ("redis", "b:2", None),
            ("redis://a:1", "b", None),
        ] {
            assert_eq!(url_at(other, address).as_deref(), url);
        }
    }

    #[test]
    fn a_key_is_looked_for_where_the_nearest_slot_is() {
        let at = |key: &str| Command { name: "GET", arguments: vec![key.into()] };
        let mut slots = Slots::default();
        assert_eq!(slots.guess(&at("foo")), None);
        // Its slot is 5061, that of foo 12182, and that of 123456789 is 12739.
        slots.learn(&at("bar"), 'a');
        assert_eq!(slots.guess(&at("foo")), Some(&'a'));
        slots.learn(&at("123456789"), 'b');
        assert_eq!([slots.guess(&at("foo")), slots.guess(&at("bar"))], [Some(&'b'), Some(&'a')]);
        slots.learn(&at("bar"), 'b');
        assert_eq!(slots.guess(&at("bar")), Some(&'b'), "it was moved again");
        (0..2000).for_each(|key| slots.learn(&at(&key.to_string()), 'c'));
        assert!(slots.0.len() <= REMEMBERED);
    }
}
