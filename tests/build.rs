//! Tells the tests which of them cannot run: `deployment` is set where they run against a deployment that they must not
//! stop or change (ORDERS_BASE_URL), `spin` where they run on Spin.

fn main() {
    println!("cargo::rerun-if-env-changed=ORDERS_BASE_URL");
    println!("cargo::rerun-if-env-changed=ORDERS_HOST");
    println!("cargo::rustc-check-cfg=cfg(deployment, spin)");
    if std::env::var_os("ORDERS_BASE_URL").is_some() {
        println!("cargo::rustc-cfg=deployment");
    }
    if std::env::var_os("ORDERS_HOST").is_some_and(|host| host == "spin") {
        println!("cargo::rustc-cfg=spin");
    }
}
