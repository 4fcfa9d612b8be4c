//! The record that Redis stores under a key scope: how far a creation has come, its fingerprint and its id.

use uuid::Uuid;

use crate::fingerprint::Fingerprint;
use crate::history::History;
use crate::resource::ResourceId;

/// How far the creation had come when the record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A request has begun to create the resource. It may exist, be under way, or never exist.
    InProgress,
    /// Postgres held the resource in this history. Written only from a row that was read, or inserted and seen
    /// committed.
    Completed(History),
}

/// What Redis stores under a key scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How far the creation had come.
    pub progress: Progress,
    /// What was requested.
    pub fingerprint: Fingerprint,
    /// The id that was drawn for (in progress) or that belongs to (completed) the resource.
    pub id: ResourceId,
}

/// The first byte of an encoded record. This release ignores records of other versions.
const VERSION: u8 = 1;
const IN_PROGRESS: u8 = b'r';
const COMPLETED: u8 = b'f';
/// Version, progress, fingerprint, id, and a history in a completed record.
const MAX_RECORD_BYTES: usize = 1 + 1 + 32 + 16 + History::BYTES;

impl Record {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_RECORD_BYTES);
        let (progress, history) = match &self.progress {
            Progress::InProgress => (IN_PROGRESS, &[][..]),
            Progress::Completed(history) => (COMPLETED, &history.as_bytes()[..]),
        };
        bytes.extend([VERSION, progress]);
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(history);
        bytes
    }

    /// The record that the bytes are, or `None` for anything else: garbage, or a version from the future.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, progress], rest) = bytes.split_first_chunk::<2>()? else {
            return None;
        };
        let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        Some(Self {
            progress: match (progress, rest) {
                (IN_PROGRESS, []) => Progress::InProgress,
                (COMPLETED, history) => Progress::Completed(History::from_bytes(history)?),
                _ => return None,
            },
            fingerprint: Fingerprint::from_bytes(fingerprint)?,
            id: ResourceId::from_uuid(Uuid::from_slice(id).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_encoding_and_nothing_else_is_a_record() {
        let history = History::from_bytes(&[9; 8]).expect("8 bytes");
        for (progress, length) in [(Progress::InProgress, 50), (Progress::Completed(history), 58)] {
            let record = Record {
                progress,
                fingerprint: Fingerprint::from_bytes(&[7; 32]).expect("32 bytes"),
                id: ResourceId::from_uuid(Uuid::from_u128(7)),
            };
            let bytes = record.encode();
            assert_eq!(bytes.len(), length);
            assert_eq!(Record::decode(&bytes), Some(record));

            let mut future = bytes.clone();
            future[0] = 2;
            assert_eq!(Record::decode(&future), None);
            let mut unknown = bytes.clone();
            unknown[1] = b'x';
            assert_eq!(Record::decode(&unknown), None);
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Record::decode(&longer), None);
            for shorter in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..shorter]), None);
            }
        }
    }
}
