//! Where a test applies: its first line says so. A test that does not apply to a run is skipped, and says that.

use std::env;

use devstack::or_skip;
use fixtures::Shared;

/// What a run of the tests uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Redis and Postgres, with the table that the migrations create.
    Servers,
    /// The same with a table of hash partitions. Only tests that depend on the table apply here as well.
    Partitions,
    /// The same with a distributed table, which has no feed and no triggers.
    Distributed,
    /// The embedded store.
    Embedded,
    /// A deployment that the tests must neither stop nor change (`ORDERS_BASE_URL`).
    Deployment,
}

impl Place {
    /// That of this run.
    pub fn of_this_run() -> Self {
        if env::var_os("ORDERS_BASE_URL").is_some() {
            return Self::Deployment;
        }
        match Shared::told() {
            Ok(shared) if shared.embedded => Self::Embedded,
            Ok(shared) if shared.table == "partitioned" => Self::Partitions,
            Ok(shared) if shared.table == "distributed" => Self::Distributed,
            _ => Self::Servers,
        }
    }
}

/// Whether Spin serves; otherwise the bundled runner does.
pub fn is_on_spin() -> bool {
    env::var_os("ORDERS_HOST").is_some_and(|host| host == "spin")
}

/// Whether the run is one of these, and, if that matters, the bundled runner serves, which counts calls; otherwise the
/// test is skipped.
pub fn is_one_of(places: &[Place], on_the_runner: bool) -> bool {
    let (place, host) = (Place::of_this_run(), if is_on_spin() { " on Spin" } else { "" });
    let applies = places.contains(&place) && !(on_the_runner && is_on_spin());
    let why = || anyhow::anyhow!("it does not apply to {place:?}{host}");
    let test = std::thread::current();
    or_skip(test.name().unwrap_or_default(), applies.then_some(()).ok_or_else(why)).is_some()
}

/// Ends a test that does not apply to this run.
macro_rules! applies_to {
    ($($place:ident),+; on the runner) => {
        applies_to!(@ true, $($place),+);
    };
    ($($place:ident),+) => {
        applies_to!(@ false, $($place),+);
    };
    (@ $on_the_runner:literal, $($place:ident),+) => {
        if !crate::applies::is_one_of(&[$(crate::applies::Place::$place),+], $on_the_runner) {
            return;
        }
    };
}
