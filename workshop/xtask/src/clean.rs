//! `cargo xtask clean`: removes the servers' data and the embedded store's file.

use anyhow::Result;
use devstack::{Postgres, workspace};

pub fn clean() -> Result<()> {
    let folder = workspace::stack_folder();
    if folder.exists() {
        for run in std::fs::read_dir(&folder)? {
            let run = run?.path();
            if run.is_dir() {
                Postgres::remove_all(&run)?;
            }
        }
        std::fs::remove_dir_all(&folder)?;
    }
    // The host's default place for it, with the files that SQLite keeps beside it.
    for file in ["sqlite_db.db", "sqlite_db.db-wal", "sqlite_db.db-shm"] {
        let file = workspace::root().join(".spin").join(file);
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    eprintln!("Removed the data of `up` and of tests. (cargo clean removes what was built.)");
    Ok(())
}
