//! The contestants, their workloads, and the rows of the table: a row is a contestant with a workload.

/// What serves the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// The order component.
    Ours,
    /// A component that makes the same host calls as ours and nothing else.
    Bare,
    /// A component written like the SDK's examples.
    Naive,
    /// A component that returns a constant.
    Floor,
    /// The same protocol as a native service.
    Native,
}

impl Contestant {
    /// The manifest of a component, relative to the checkout; `None` for the native service.
    pub fn manifest(self) -> Option<String> {
        let folder = match self {
            Self::Ours => return Some("spin.toml".to_owned()),
            Self::Native => return None,
            Self::Bare => "bare",
            Self::Naive => "naive",
            Self::Floor => "floor",
        };
        Some(format!("workshop/bench/contestants/{folder}/spin.toml"))
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
    Row { name, contestant, workload }
}

pub const FLOOR: Row = row("floor", Contestant::Floor, Workload::Nothing);
pub const CREATE: Row = row("create", Contestant::Ours, Workload::Create);
pub const BARE_CREATE: Row = row("bare create", Contestant::Bare, Workload::Create);
pub const NATIVE_CREATE: Row = row("native create", Contestant::Native, Workload::Create);
pub const REPLAY: Row = row("replay", Contestant::Ours, Workload::Replay);
pub const BARE_REPLAY: Row = row("bare replay", Contestant::Bare, Workload::Replay);
pub const NATIVE_REPLAY: Row = row("native replay", Contestant::Native, Workload::Replay);
pub const MIX: Row = row("mix", Contestant::Ours, Workload::Mix);
pub const NATIVE_MIX: Row = row("native mix", Contestant::Native, Workload::Mix);
pub const NAIVE_CREATE: Row = row("naive create", Contestant::Naive, Workload::Create);
/// Measured by the growth run only.
pub const LIST: Row = row("list", Contestant::Ours, Workload::List);

/// All rows of the main table, in the order in which they take turns.
pub const ROWS: [Row; 10] =
    [FLOOR, CREATE, BARE_CREATE, NATIVE_CREATE, REPLAY, BARE_REPLAY, NATIVE_REPLAY, MIX, NATIVE_MIX, NAIVE_CREATE];

/// The numbers of clients that rows are compared with. Each client keeps one connection.
pub const CONNECTIONS: [usize; 4] = [1, TAIL_CONNECTIONS, GOAL_CONNECTIONS, 256];

/// The number of clients that most goals are set for.
pub const GOAL_CONNECTIONS: usize = 64;

/// The number of clients below [`GOAL_CONNECTIONS`] that a goal for tail latencies is set for, besides one.
pub const TAIL_CONNECTIONS: usize = 16;

impl Row {
    /// Whether it is measured with that number of clients.
    pub fn runs_with(&self, connections: usize, quick: bool) -> bool {
        // Each instance of it keeps one of the host's 64 Postgres connections until the host drops the
        // instance. With more clients than connections it would measure the wait for a connection.
        if self.contestant == Contestant::Bare && connections > GOAL_CONNECTIONS {
            return false;
        }
        let for_goals = match connections {
            // No goal compares them.
            GOAL_CONNECTIONS => self.workload != Workload::Mix,
            1 => [CREATE, REPLAY, BARE_CREATE, BARE_REPLAY, NATIVE_CREATE].contains(self),
            TAIL_CONNECTIONS => [CREATE, REPLAY, BARE_CREATE, BARE_REPLAY].contains(self),
            _ => false,
        };
        for_goals || !quick
    }

    /// How long each of its turns is measured, in seconds. A quick run is short for rows that vary little.
    pub fn seconds(&self, connections: usize, quick: bool) -> u64 {
        let varies = [CREATE, BARE_CREATE, NAIVE_CREATE].contains(self);
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
            (Contestant::Native, _, _) | (_, _, 1) => 0,
            (_, Workload::Create | Workload::Mix, _) => 3,
            (_, Workload::Nothing | Workload::Replay | Workload::List, _) => 1,
        }
    }

    /// The row of another contestant with the same workload.
    pub fn of(&self, contestant: Contestant) -> Option<Row> {
        ROWS.into_iter().find(|row| row.contestant == contestant && row.workload == self.workload)
    }
}
