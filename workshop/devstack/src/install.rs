//! Finds the Redis and Postgres programs on this machine, and installs them with apt where that is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

/// The oldest servers that the component works with.
const MIN_REDIS: u32 = 7;
const MIN_POSTGRES: u32 = 14;

/// The programs that make up the stack.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `redis-server` or `valkey-server`
    pub redis_server: PathBuf,
    /// `postgres`
    pub postgres: PathBuf,
    /// `initdb`, of the same installation
    pub initdb: PathBuf,
}

impl Programs {
    /// Finds all programs. Installs missing ones if `may_install`, on Debian and Ubuntu, as root.
    pub fn find_or_install(may_install: bool) -> Result<Self> {
        if let Some(programs) = Self::find() {
            return programs.checked();
        }
        let missing: Vec<&str> =
            [(redis_server().is_none(), "redis-server"), (postgres_folder().is_none(), "postgresql")]
                .into_iter()
                .filter_map(|(is_missing, package)| is_missing.then_some(package))
                .collect();
        if !(may_install && can_install()) {
            bail!(
                "missing on this machine: {}. Install with one of\n  \
                 Debian, Ubuntu:  sudo apt-get install redis-server postgresql\n  \
                 Fedora:          sudo dnf install valkey postgresql-server\n  \
                 macOS:           brew install redis postgresql@17\n\
                 or use servers of your own with --redis-url and --database-url",
                missing.join(" and ")
            );
        }
        install(&missing)?;
        Self::find().with_context(|| format!("{} not found even after installing", missing.join(" and ")))?.checked()
    }

    fn find() -> Option<Self> {
        let folder = postgres_folder()?;
        Some(Self { redis_server: redis_server()?, postgres: folder.join("postgres"), initdb: folder.join("initdb") })
    }

    fn checked(self) -> Result<Self> {
        for (program, minimum, url) in
            [(&self.redis_server, MIN_REDIS, "--redis-url"), (&self.postgres, MIN_POSTGRES, "--database-url")]
        {
            let version = major_version(program)?;
            ensure!(
                version >= minimum,
                "{} is version {version}; {minimum} or newer is needed (or use another server with {url})",
                program.display()
            );
        }
        Ok(self)
    }
}

/// Another program of the installation that `postgres` belongs to, such as `pg_basebackup`. Where it is packaged apart,
/// the server's package depends on it.
///
/// # Errors
/// It is missing.
pub fn postgres_program(postgres: &Path, name: &str) -> Result<PathBuf> {
    // The path may be a link to the installation's folder.
    let installed = postgres.canonicalize().unwrap_or_default();
    [postgres, &installed]
        .map(|path| path.with_file_name(name))
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| on_path(name))
        .with_context(|| {
            format!(
                "missing on this machine: {name}. It comes with the server, or with its clients:\n  \
                 Debian, Ubuntu:  sudo apt-get install postgresql postgresql-client\n  \
                 Fedora:          sudo dnf install postgresql-server postgresql\n  \
                 macOS:           brew install postgresql@17"
            )
        })
}

/// Finds wrk, the load generator of the benchmarks; installs it under the same conditions.
pub fn find_or_install_wrk(may_install: bool) -> Result<PathBuf> {
    find_or_install_package("wrk", "wrk", may_install)
}

/// Finds PgBouncer, a pooler; installs it under the same conditions.
pub fn find_or_install_pgbouncer(may_install: bool) -> Result<PathBuf> {
    find_or_install_package("PgBouncer", "pgbouncer", may_install)
}

/// Finds HAProxy, a gateway; installs it under the same conditions.
pub fn find_or_install_haproxy(may_install: bool) -> Result<PathBuf> {
    find_or_install_package("HAProxy", "haproxy", may_install)
}

/// The same for a program whose package has its name on every system.
fn find_or_install_package(name: &str, program: &str, may_install: bool) -> Result<PathBuf> {
    let commands = format!(
        "Debian, Ubuntu:  sudo apt-get install {program}\n  \
         Fedora:          sudo dnf install {program}\n  \
         macOS:           brew install {program}"
    );
    find_or_install(name, program, &[program], may_install, &commands)
}

/// Finds Chromium, the browser of the console's tests; installs it with apt, on Debian and Ubuntu, as root.
pub(crate) fn find_or_install_chromium() -> Result<PathBuf> {
    find_or_install(
        "Chromium",
        "chromium",
        &["chromium", "fonts-dejavu-core"],
        true,
        "Debian:          sudo apt-get install chromium\n  \
         Fedora:          sudo dnf install chromium\n  \
         macOS:           brew install chromium",
    )
}

/// Finds podman, which runs pods; installs it under the same conditions, with the runtime for old cgroups.
pub fn find_or_install_podman(may_install: bool) -> Result<PathBuf> {
    let commands = "Debian, Ubuntu:  sudo apt-get install podman runc catatonit\n  \
                    Fedora:          sudo dnf install podman";
    find_or_install("podman", "podman", &["podman", "runc", "catatonit"], may_install, commands)
}

/// Finds Java, to run programs with it; installs it under the same conditions.
pub fn find_or_install_java(may_install: bool) -> Result<PathBuf> {
    find_or_install(
        "Java",
        "java",
        &["default-jre-headless"],
        may_install,
        "Debian, Ubuntu:  sudo apt-get install default-jre-headless\n  \
         Fedora:          sudo dnf install java-latest-openjdk-headless\n  \
         macOS:           brew install openjdk",
    )
}

/// Finds a program; installs its packages if it may and can. `commands` says how to install it by hand.
fn find_or_install(name: &str, program: &str, packages: &[&str], may_install: bool, commands: &str) -> Result<PathBuf> {
    if let Some(path) = on_path(program) {
        return Ok(path);
    }
    ensure!(may_install && can_install(), "missing on this machine: {name}. Install with one of\n  {commands}");
    install(packages)?;
    on_path(program).with_context(|| format!("{name} not found even after installing"))
}

/// Finds Node with npm, of a version or newer.
pub(crate) fn node(minimum: u32) -> Result<PathBuf> {
    let (Some(node), Some(_)) = (on_path("node"), on_path("npm")) else {
        bail!(
            "missing on this machine: Node with npm. Install with one of\n  \
             Debian, Ubuntu:  sudo apt-get install nodejs npm\n  \
             Fedora:          sudo dnf install nodejs\n  \
             macOS:           brew install node"
        );
    };
    let version = major_version(&node)?;
    ensure!(version >= minimum, "{} is version {version}; {minimum} or newer is needed", node.display());
    Ok(node)
}

/// The same; installs them with apt, on Debian and Ubuntu, as root.
pub(crate) fn find_or_install_node(minimum: u32) -> Result<PathBuf> {
    if on_path("node").and(on_path("npm")).is_none() && can_install() {
        install(&["nodejs", "npm"])?;
    }
    node(minimum)
}

/// Makes a virtual environment of Python in a folder; installs Python's part for that under the same
/// conditions.
pub fn python_venv(folder: &Path, may_install: bool) -> Result<()> {
    let make = || {
        let output = Command::new("python3").args(["-m", "venv"]).arg(folder).output();
        output.is_ok_and(|output| output.status.success())
    };
    if make() {
        return Ok(());
    }
    ensure!(
        may_install && can_install(),
        "missing on this machine: Python with venv. Install with one of\n  \
         Debian, Ubuntu:  sudo apt-get install python3-venv\n  \
         Fedora:          sudo dnf install python3\n  \
         macOS:           brew install python"
    );
    install(&["python3-venv"])?;
    ensure!(make(), "python3 -m venv fails even after installing");
    Ok(())
}

/// Whether this is Debian or Ubuntu, and this process runs as root.
fn can_install() -> bool {
    Path::new("/usr/bin/apt-get").exists() && Uid::effective().is_root()
}

fn redis_server() -> Option<PathBuf> {
    on_path("redis-server").or_else(|| on_path("valkey-server"))
}

/// The folder with both `postgres` and `initdb`: on PATH, or where distributions put them.
fn postgres_folder() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| folder.join("postgres").exists() && folder.join("initdb").exists();
    let on_path = on_path("postgres").and_then(|p| p.parent().map(Path::to_path_buf));
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    on_path
        .into_iter()
        .chain(versions.into_iter().rev().map(|(_, folder)| folder))
        .chain(["/usr/pgsql/bin", "/opt/homebrew/opt/postgresql/bin"].map(PathBuf::from))
        .find(complete)
}

/// Finds a program on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The first number in what the program says of its version.
fn major_version(program: &Path) -> Result<u32> {
    let output =
        Command::new(program).arg("--version").output().with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    first_number(&text).with_context(|| format!("{} does not print its version: {text}", program.display()))
}

fn first_number(text: &str) -> Option<u32> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?;
    digits.parse().ok()
}

/// Installs packages with apt. Their servers are not started.
fn install(packages: &[&str]) -> Result<()> {
    eprintln!("Installing with apt-get: {} ...", packages.join(", "));
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        // Debian asks this script whether a package may start its service; 101 is "no".
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(policy, mode)?;
    }
    let outcome = apt(&["update", "--quiet"]).and_then(|()| {
        let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
        apt(&[&arguments, packages].concat())
    });
    if ours {
        std::fs::remove_file(policy)?;
    }
    outcome
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("running apt-get")?;
    ensure!(
        output.status.success(),
        "apt-get {} failed:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_output_of_programs() {
        assert_eq!(first_number("Redis server v=7.0.15 sha=0"), Some(7));
        assert_eq!(first_number("postgres (PostgreSQL) 15.18 (Debian)"), Some(15));
        assert_eq!(first_number("none"), None);
    }
}
