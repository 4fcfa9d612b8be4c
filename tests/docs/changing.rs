//! The diffs of docs/changing.md apply to this checkout.

use std::io::Write;
use std::process::{Command, Stdio};

use devstack::workspace;

use crate::{blocks, read};

#[test]
fn the_diffs_of_the_page_apply() {
    let diffs = blocks(&read("docs/changing.md"), "diff");
    assert!(!diffs.is_empty());
    for diff in diffs {
        let mut git = Command::new("git")
            .args(["apply", "--check", "-"])
            .current_dir(workspace::root())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        git.stdin.take().unwrap().write_all(diff.as_bytes()).unwrap();
        assert!(git.wait().unwrap().success(), "{diff}");
    }
}
