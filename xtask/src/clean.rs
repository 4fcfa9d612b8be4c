//! `cargo xtask clean`: removes the servers' data.

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
    eprintln!("Removed the data of `up` and of tests. (cargo clean removes what was built.)");
    Ok(())
}
