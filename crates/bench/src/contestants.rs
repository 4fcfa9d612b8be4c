//! Who is measured, doing what.

use std::path::PathBuf;

use devstack::workspace;

/// What serves, or what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// A component, on each host.
    Component(Component),
    /// A native service, by the name of its protocol.
    Native(&'static str),
    /// A store, by what it is asked.
    Store(&'static str),
}

/// A Spin application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Ours.
    Ours,
    /// As the SDK's examples would have it written.
    Naive,
    /// Does nothing.
    Floor,
}

impl Component {
    /// Its manifest.
    pub fn manifest(self) -> PathBuf {
        workspace::root().join(match self {
            Self::Ours => "spin.toml",
            Self::Naive => "crates/bench/contestants/naive/spin.toml",
            Self::Floor => "crates/bench/contestants/floor/spin.toml",
        })
    }
}

/// What the clients want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Any answer.
    Nothing,
    /// Orders under new keys.
    Create,
    /// The orders of 64 keys, all finished.
    Replay,
    /// Orders, 5 % of them for a second time.
    Mix,
}

impl Workload {
    /// What the load generator's script calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Create => "create",
            Self::Replay => "replay",
            Self::Mix => "mix",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the table calls it.
    pub name: &'static str,
    /// Who.
    pub contestant: Contestant,
    /// Doing what.
    pub workload: Workload,
}

const fn row(name: &'static str, contestant: Contestant, workload: Workload) -> Row {
    Row {
        name,
        contestant,
        workload,
    }
}

const OURS: Contestant = Contestant::Component(Component::Ours);
const NATIVE: Contestant = Contestant::Native("orders");

/// The rows that goals are set between.
pub const CREATE: &str = "create";
pub const REPLAY: &str = "replay";
pub const MIX: &str = "mix";
pub const FLOOR: &str = "floor";
pub const NAIVE_CREATE: &str = "naive create";
pub const NATIVE_CREATE: &str = "native create";
pub const NATIVE_REPLAY: &str = "native replay";
pub const NATIVE_MIX: &str = "native mix";

/// All of them, in the order in which they take turns.
pub const ROWS: [Row; 12] = [
    row(
        FLOOR,
        Contestant::Component(Component::Floor),
        Workload::Nothing,
    ),
    row(CREATE, OURS, Workload::Create),
    row(NATIVE_CREATE, NATIVE, Workload::Create),
    row(REPLAY, OURS, Workload::Replay),
    row(NATIVE_REPLAY, NATIVE, Workload::Replay),
    row(MIX, OURS, Workload::Mix),
    row(NATIVE_MIX, NATIVE, Workload::Mix),
    row(
        NAIVE_CREATE,
        Contestant::Component(Component::Naive),
        Workload::Create,
    ),
    row(
        "course get-set",
        Contestant::Native("get-set"),
        Workload::Create,
    ),
    row("course lock", Contestant::Native("lock"), Workload::Create),
    row(
        "store insert",
        Contestant::Store("insert"),
        Workload::Create,
    ),
    row(
        "store reserve",
        Contestant::Store("reserve"),
        Workload::Create,
    ),
];

impl Row {
    /// Whether it is measured with that many connections.
    pub fn runs_with(&self, connections: usize, quick: bool) -> bool {
        let for_goals = match connections {
            crate::GOAL_CONNECTIONS => true,
            1 => [CREATE, NATIVE_CREATE].contains(&self.name),
            _ => false,
        };
        for_goals || !quick
    }

    /// How long one of its turns is measured, in seconds. A quick run is brief where little varies.
    pub fn seconds(&self, connections: usize, quick: bool) -> u64 {
        let varies = [CREATE, NAIVE_CREATE].contains(&self.name);
        match (quick, varies, connections) {
            (false, _, _) => 3,
            (true, true, crate::GOAL_CONNECTIONS) => 2,
            (true, _, _) => 1,
        }
    }

    /// How long it is under load before that, in seconds. A burst on a host without instances starts one for
    /// nearly each connection. They are dropped after 128 requests, and only then is the host as it will be
    /// for as long as the load lasts.
    pub fn lead_in(&self, connections: usize) -> u64 {
        match (self.contestant, self.workload, connections) {
            (_, _, 1) => 0,
            (Contestant::Component(_), Workload::Create | Workload::Mix, _) => 3,
            (Contestant::Component(_), Workload::Nothing | Workload::Replay, _) => 1,
            (Contestant::Native(_) | Contestant::Store(_), _, _) => 0,
        }
    }

    /// The native row with the same work.
    pub fn native(&self) -> Option<&'static str> {
        match self.workload {
            Workload::Nothing => None,
            Workload::Create => Some(NATIVE_CREATE),
            Workload::Replay => Some(NATIVE_REPLAY),
            Workload::Mix => Some(NATIVE_MIX),
        }
    }
}
