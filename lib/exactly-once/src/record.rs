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
    /// committed. The previous release wrote no history: such a record is believed in none.
    Completed(Option<History>),
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

/// The first byte of an encoded record without a history. A record of an unknown version is not ours to understand.
const WITHOUT_HISTORY: u8 = 1;
/// The first byte of an encoded record with a history.
const WITH_HISTORY: u8 = 2;
const IN_PROGRESS: u8 = b'r';
const COMPLETED: u8 = b'f';
/// Version, progress, fingerprint, id, and a history in a completed record.
const MAX_RECORD_BYTES: usize = 1 + 1 + 32 + 16 + History::BYTES;

impl Record {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_RECORD_BYTES);
        bytes.extend(match self.progress {
            Progress::InProgress => [WITHOUT_HISTORY, IN_PROGRESS],
            Progress::Completed(None) => [WITHOUT_HISTORY, COMPLETED],
            Progress::Completed(Some(_)) => [WITH_HISTORY, COMPLETED],
        });
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        if let Progress::Completed(Some(history)) = &self.progress {
            bytes.extend_from_slice(history.as_bytes());
        }
        bytes
    }

    /// The record that the bytes are, or `None` for anything else: garbage, or a version from the future.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, progress], rest) = bytes.split_first_chunk::<2>()?;
        let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        Some(Self {
            progress: match (version, progress, rest) {
                (WITHOUT_HISTORY, IN_PROGRESS, []) => Progress::InProgress,
                (WITHOUT_HISTORY, COMPLETED, []) => Progress::Completed(None),
                (WITH_HISTORY, COMPLETED, history) => Progress::Completed(Some(History::from_bytes(history)?)),
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
        let history = History::from_bytes(&[9; 8]);
        for (progress, length) in [
            (Progress::InProgress, 50),
            (Progress::Completed(None), 50),
            (Progress::Completed(history), 58),
        ] {
            let record = Record {
                progress,
                fingerprint: Fingerprint::from_bytes(&[7; 32]).expect("32 bytes"),
                id: ResourceId::from_uuid(Uuid::from_u128(7)),
            };
            let bytes = record.encode();
            assert_eq!(bytes.len(), length);
            assert_eq!(Record::decode(&bytes), Some(record));

            let mut future = bytes.clone();
            future[0] = 3;
            assert_eq!(Record::decode(&future), None);
            let mut unknown = bytes.clone();
            unknown[1] = b'x';
            assert_eq!(Record::decode(&unknown), None);
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Record::decode(&longer), None);
            // The last 8 bytes of a record with a history, cut off, leave no record: its version demands them.
            for shorter in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..shorter]), None);
            }
        }
    }
}
