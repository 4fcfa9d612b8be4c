//! Embeds the migrations anew when one is added or changed.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
    // A link in that folder leads to it.
    println!("cargo::rerun-if-changed=../../lib/exactly-once-stores/schema.sql");
}
