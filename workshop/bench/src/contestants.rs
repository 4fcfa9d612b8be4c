//! The contestants, their workloads, and the rows of the table: a row is a contestant with a workload.

use std::path::PathBuf;

use devstack::workspace;

use crate::options::{GOAL_CONNECTIONS, TAIL_CONNECTIONS};

/// What serves the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// A component, on each host.
    Component(Component),
    /// A native service, by the name of its protocol.
    Native(&'static str),
    /// A store alone, by the name of the command that it receives.
    Store(&'static str),
}

/// A Spin application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The order component.
    Ours,
    /// A component that makes the same host calls as ours and nothing else.
    Bare,
    /// A component written like the SDK's examples.
    Naive,
    /// A component that returns a constant.
    Floor,
}

impl Component {
    /// The path of its manifest.
    pub fn manifest(self) -> PathBuf {
        workspace::root().join(match self {
            Self::Ours => "spin.toml",
            Self::Bare => "workshop/bench/contestants/bare/spin.toml",
            Self::Naive => "workshop/bench/contestants/naive/spin.toml",
            Self::Floor => "workshop/bench/contestants/floor/spin.toml",
        })
    }
}

/// What the clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// `GET /`.
    Nothing,
    /// Orders with new keys.
    Create,
    /// Orders with 64 keys whose orders exist and are marked completed in Redis.
    Replay,
    /// Orders with new keys; 5 % are sent a second time.
    Mix,
    /// The first page of a customer's orders.
    List,
}

impl Workload {
    /// Its name in the load generator's script.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Create => "create",
            Self::Replay => "replay",
            Self::Mix => "mix",
            Self::List => "list",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name in the table.
    pub name: &'static str,
    /// What serves the requests.
    pub contestant: Contestant,
    /// What the clients send.
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
const BARE: Contestant = Contestant::Component(Component::Bare);
const NATIVE: Contestant = Contestant::Native("orders");

/// The names of rows that goals or table columns compare.
pub const CREATE: &str = "create";
pub const REPLAY: &str = "replay";
pub const MIX: &str = "mix";
pub const FLOOR: &str = "floor";
pub const BARE_CREATE: &str = "bare create";
pub const BARE_REPLAY: &str = "bare replay";
pub const NAIVE_CREATE: &str = "naive create";
pub const NATIVE_CREATE: &str = "native create";
pub const NATIVE_REPLAY: &str = "native replay";
pub const NATIVE_MIX: &str = "native mix";

/// All rows, in the order in which they take turns.
pub const ROWS: [Row; 14] = [
    row(
        FLOOR,
        Contestant::Component(Component::Floor),
        Workload::Nothing,
    ),
    row(CREATE, OURS, Workload::Create),
    row(BARE_CREATE, BARE, Workload::Create),
    row(NATIVE_CREATE, NATIVE, Workload::Create),
    row(REPLAY, OURS, Workload::Replay),
    row(BARE_REPLAY, BARE, Workload::Replay),
    row(NATIVE_REPLAY, NATIVE, Workload::Replay),
    row(MIX, OURS, Workload::Mix),
    row(NATIVE_MIX, NATIVE, Workload::Mix),
    row(
        NAIVE_CREATE,
        Contestant::Component(Component::Naive),
        Workload::Create,
    ),
    row(
        "baseline get-set",
        Contestant::Native("get-set"),
        Workload::Create,
    ),
    row(
        "baseline lock",
        Contestant::Native("lock"),
        Workload::Create,
    ),
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

/// The first page of a customer's orders, which is measured with more and more orders only.
pub const LIST: Row = row("list", OURS, Workload::List);

/// The row of this name.
pub fn row_named(name: &str) -> Option<Row> {
    ROWS.into_iter().find(|row| row.name == name)
}

impl Row {
    /// Whether it is measured with that number of clients.
    pub fn runs_with(&self, connections: usize, quick: bool) -> bool {
        // Each instance of it keeps one of the host's 64 Postgres connections until the host drops the
        // instance. With more clients than connections it would measure the wait for a connection.
        if self.contestant == BARE && connections > GOAL_CONNECTIONS {
            return false;
        }
        let for_goals = match connections {
            // No goal compares them.
            GOAL_CONNECTIONS => self.workload != Workload::Mix,
            1 => [CREATE, REPLAY, BARE_CREATE, BARE_REPLAY, NATIVE_CREATE].contains(&self.name),
            TAIL_CONNECTIONS => [CREATE, REPLAY].contains(&self.name),
            _ => false,
        };
        for_goals || !quick
    }

    /// How long each of its turns is measured, in seconds. A quick run is short for rows that vary little.
    pub fn seconds(&self, connections: usize, quick: bool) -> u64 {
        let varies = [CREATE, BARE_CREATE, NAIVE_CREATE].contains(&self.name);
        match (quick, varies, connections) {
            (false, _, _) => 3,
            (true, true, GOAL_CONNECTIONS) => 2,
            (true, _, _) => 1,
        }
    }

    /// How long it is under load before each turn, in seconds. A burst on a host without instances starts
    /// an instance for nearly each connection. The host drops them after 128 requests; only then is its state
    /// the one that lasts as long as the load.
    pub fn lead_in(&self, connections: usize) -> u64 {
        match (self.contestant, self.workload, connections) {
            (_, _, 1) => 0,
            (Contestant::Component(_), Workload::Create | Workload::Mix, _) => 3,
            (
                Contestant::Component(_),
                Workload::Nothing | Workload::Replay | Workload::List,
                _,
            ) => 1,
            (Contestant::Native(_) | Contestant::Store(_), _, _) => 0,
        }
    }

    /// The name of the native row with the same workload.
    pub fn native(&self) -> Option<&'static str> {
        match self.workload {
            Workload::Nothing | Workload::List => None,
            Workload::Create => Some(NATIVE_CREATE),
            Workload::Replay => Some(NATIVE_REPLAY),
            Workload::Mix => Some(NATIVE_MIX),
        }
    }

    /// The name of the bare component's row with the same workload.
    pub fn bare(&self) -> Option<&'static str> {
        match self.workload {
            Workload::Create => Some(BARE_CREATE),
            Workload::Replay => Some(BARE_REPLAY),
            Workload::Nothing | Workload::Mix | Workload::List => None,
        }
    }
}
